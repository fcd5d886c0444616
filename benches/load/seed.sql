-- Organizations with 20 projects, 5 members and 100 audit rows each, the same in every run. Ids,
-- which are random in production, come from md5, so that rows close in time are not close in an
-- index.
INSERT INTO auth.users (id, email, name)
SELECT md5('user' || n || '-' || k)::uuid, 'user-' || n || '-' || k || '@example.com', 'User ' || n || '-' || k
FROM generate_series(1, :organizations) n, generate_series(1, 5) k;

INSERT INTO auth.identities (issuer, subject, user_id)
SELECT '', 'user-' || n || '-' || k, md5('user' || n || '-' || k)::uuid
FROM generate_series(1, :organizations) n, generate_series(1, 5) k;

INSERT INTO app.organizations (id, name, slug)
SELECT md5('organization' || n)::uuid, 'Organization ' || n, 'org-' || n FROM generate_series(1, :organizations) n;

INSERT INTO app.organization_slugs (slug, organization_id)
SELECT 'org-' || n, md5('organization' || n)::uuid FROM generate_series(1, :organizations) n;

-- A plan without limits. Every created project is still counted and compared.
INSERT INTO billing.organization_billing (organization_id, plan)
SELECT md5('organization' || n)::uuid, 'enterprise' FROM generate_series(1, :organizations) n;

INSERT INTO auth.organization_members (organization_id, user_id, role, joined_at, created_at)
SELECT md5('organization' || n)::uuid, md5('user' || n || '-' || k)::uuid,
       (CASE k WHEN 1 THEN 'owner' WHEN 2 THEN 'admin' WHEN 5 THEN 'viewer' ELSE 'member' END)::auth.org_role,
       '2026-01-01'::timestamptz + interval '1 minute' * k, '2026-01-01'::timestamptz + interval '1 minute' * k
FROM generate_series(1, :organizations) n, generate_series(1, 5) k;

INSERT INTO app.projects (organization_id, id, name, description, created_by, created_at, updated_at)
SELECT md5('organization' || n)::uuid, md5('project' || n || '-' || p)::uuid, 'Project ' || p || ' of ' || n,
       'What the members of organization ' || n || ' work on together.', md5('user' || n || '-' || 1 + p % 5)::uuid, at, at
FROM generate_series(1, :organizations) n, generate_series(1, 20) p,
     LATERAL (SELECT '2026-02-01'::timestamptz + interval '1 hour' * p + interval '1 microsecond' * n AS at) times;

INSERT INTO audit.audit_logs
    (organization_id, actor_id, actor_name, action, resource_type, resource_id, metadata, ip_address, created_at)
SELECT md5('organization' || n)::uuid, md5('user' || n || '-' || 1 + a % 5)::uuid, 'User ' || n || '-' || 1 + a % 5,
       'project.updated', 'project', md5('project' || n || '-' || 1 + a % 20)::uuid,
       jsonb_build_object('name', 'Project ' || 1 + a % 20 || ' of ' || n, 'old_name', 'Draft'), '192.0.2.1',
       '2026-03-01'::timestamptz + interval '1 minute' * a
FROM generate_series(1, :organizations) n, generate_series(1, 100) a;
