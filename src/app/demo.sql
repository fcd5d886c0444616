-- The rows of the product in the demo: projects of both organizations.
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
