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
