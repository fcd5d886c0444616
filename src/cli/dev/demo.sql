-- The rows of the demo. Ids are fixed, so that examples can use them.
INSERT INTO auth.users (id, email, name) VALUES
    ('00000000-0000-4000-8000-0000000000a1', 'acme-owner@example.com', 'Olivia'),
    ('00000000-0000-4000-8000-0000000000a2', 'acme-admin@example.com', 'Adam'),
    ('00000000-0000-4000-8000-0000000000a3', 'acme-member@example.com', 'Mia'),
    ('00000000-0000-4000-8000-0000000000a4', 'acme-viewer@example.com', 'Victor'),
    ('00000000-0000-4000-8000-0000000000b1', 'globex-owner@example.com', 'Omar'),
    ('00000000-0000-4000-8000-0000000000b2', 'globex-admin@example.com', 'Alice'),
    ('00000000-0000-4000-8000-0000000000b3', 'globex-member@example.com', 'Max'),
    ('00000000-0000-4000-8000-0000000000b4', 'globex-viewer@example.com', 'Vera');

INSERT INTO auth.identities (issuer, subject, user_id)
SELECT '', split_part(email, '@', 1), id FROM auth.users;

INSERT INTO app.organizations (id, name, slug) VALUES
    ('00000000-0000-4000-8000-00000000000a', 'Acme', 'acme'),
    ('00000000-0000-4000-8000-00000000000b', 'Globex', 'globex');

INSERT INTO app.organization_slugs (slug, organization_id)
SELECT slug, id FROM app.organizations;

INSERT INTO billing.organization_billing (organization_id, plan) VALUES
    ('00000000-0000-4000-8000-00000000000a', 'pro'),
    ('00000000-0000-4000-8000-00000000000b', 'free');

INSERT INTO auth.organization_members (organization_id, user_id, role, invited_by, joined_at, created_at)
SELECT o.id, u.id, split_part(split_part(u.email, '@', 1), '-', 2)::auth.org_role,
       CASE WHEN u.email NOT LIKE '%-owner@%' THEN (SELECT id FROM auth.users WHERE email = o.slug || '-owner@example.com') END,
       at, at
FROM auth.users u
JOIN app.organizations o ON o.slug = split_part(u.email, '-', 1)
CROSS JOIN LATERAL (SELECT now() - interval '1 hour' * (10 - right(u.id::text, 1)::int) AS at) joined;

INSERT INTO app.projects (organization_id, name, description, created_by, created_at)
SELECT o.id, p.name, p.description, u.id, now() - interval '1 minute' * (100 - p.position)
FROM (VALUES
    ('acme', 1, 'Rocket skates', 'Faster than any bird.', 'acme-owner'),
    ('acme', 2, 'Giant magnet', NULL, 'acme-admin'),
    ('acme', 3, 'Portable hole', 'Handle with care: do not drop.', 'acme-member'),
    ('acme', 4, 'Instant tunnel', 'One coat is enough.', 'acme-member'),
    ('globex', 1, 'Weather machine', 'Rain on demand.', 'globex-owner'),
    ('globex', 2, 'Hammock district', NULL, 'globex-member')
) p (slug, position, name, description, creator)
JOIN app.organizations o ON o.slug = p.slug
JOIN auth.users u ON u.email = p.creator || '@example.com';

INSERT INTO audit.audit_logs
    (organization_id, actor_id, actor_name, action, resource_type, resource_id, metadata, ip_address, created_at)
SELECT p.organization_id, u.id, u.name, 'project.created', 'project', p.id, jsonb_build_object('name', p.name),
       '127.0.0.1', p.created_at
FROM app.projects p JOIN auth.users u ON u.id = p.created_by;
