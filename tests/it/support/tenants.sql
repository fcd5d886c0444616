-- Added to the demo's rows: two more tenants, plans without limits, and project names that name
-- their tenant.
INSERT INTO auth.users (id, email, name) VALUES
    ('00000000-0000-4000-8000-0000000000c1', 'initech-owner@example.com', 'Ines'),
    ('00000000-0000-4000-8000-0000000000d1', 'hooli-owner@example.com', 'Hugo');
INSERT INTO auth.identities (issuer, subject, user_id)
SELECT '', split_part(email, '@', 1), id FROM auth.users WHERE email LIKE 'initech-%' OR email LIKE 'hooli-%';
INSERT INTO app.organizations (id, name, slug) VALUES
    ('00000000-0000-4000-8000-00000000000c', 'Initech', 'initech'),
    ('00000000-0000-4000-8000-00000000000d', 'Hooli', 'hooli');
INSERT INTO app.organization_slugs (slug, organization_id)
SELECT slug, id FROM app.organizations WHERE slug IN ('initech', 'hooli');
INSERT INTO billing.organization_billing (organization_id, plan)
SELECT id, 'pro' FROM app.organizations WHERE slug IN ('initech', 'hooli');
INSERT INTO auth.organization_members (organization_id, user_id, role)
SELECT o.id, u.id, 'owner' FROM app.organizations o JOIN auth.users u ON u.email = o.slug || '-owner@example.com'
WHERE o.slug IN ('initech', 'hooli');
INSERT INTO app.projects (organization_id, name)
SELECT id, 'Planning' FROM app.organizations WHERE slug IN ('initech', 'hooli');
UPDATE billing.organization_billing SET plan = 'pro';
UPDATE billing.plan_features SET limit_value = 10000000 WHERE plan = 'pro';
UPDATE app.projects p SET name = o.slug || ' ' || p.name FROM app.organizations o WHERE o.id = p.organization_id;
