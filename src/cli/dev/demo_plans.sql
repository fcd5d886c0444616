-- What the demo shows of plans: the free plan has seats for the four members of Globex, a flag and
-- a meter stand for a team's own features, and Globex has an exception.
UPDATE billing.plan_features SET limit_value = 5 WHERE plan = 'free' AND feature = 'team_members';

INSERT INTO billing.features (feature, kind, name, unit, description, period, position) VALUES
    ('sso', 'flag', 'Single sign-on', NULL, 'Sign in with the identity provider of your company.', NULL, 4),
    ('exports', 'meter', 'Exports', 'export', 'Exports as PDF.', 'month', 5);
INSERT INTO billing.plan_features (plan, feature, limit_value) VALUES
    ('pro', 'exports', 100), ('enterprise', 'exports', NULL), ('enterprise', 'sso', NULL);
INSERT INTO billing.plan_features (plan, feature, enabled) VALUES
    ('free', 'sso', false), ('pro', 'sso', false), ('free', 'exports', false);

INSERT INTO billing.organization_features (organization_id, feature, limit_value, valid_until, reason) VALUES
    ('00000000-0000-4000-8000-00000000000b', 'exports', 20, now() + interval '90 days', 'Tries exports.');
INSERT INTO billing.organization_features (organization_id, feature, reason) VALUES
    ('00000000-0000-4000-8000-00000000000a', 'sso', 'Part of the contract.');
