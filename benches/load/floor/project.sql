BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT o.* FROM (SELECT 'user-' || :n || '-1' AS subject, 'org-' || :n AS slug, extract(epoch FROM now())::bigint AS at) c, auth.open_request('', c.subject, c.slug, NULL, NULL, 'shared', NULL, c.at, sha256(decode(repeat('5c', 64), 'hex') || sha256(decode(repeat('36', 64), 'hex') || convert_to(concat(c.at, ' open 0: ', length(c.subject), ':', c.subject, ' ', length(c.slug), ':', c.slug, ' : : :'), 'UTF8')))) o;
SELECT organization_id, id, name, description, created_by, created_at, updated_at FROM projects WHERE organization_id = md5('organization' || :n)::uuid AND id = ANY(ARRAY[md5('project' || :n || '-' || :p)::uuid]);
ROLLBACK;
