BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT * FROM auth.open_request('', 'user-' || :n || '-1', 'org-' || :n, NULL, NULL, 'shared');
SELECT organization_id, id, name, description, created_by, created_at, updated_at FROM projects WHERE organization_id = md5('organization' || :n)::uuid ORDER BY created_at DESC, id DESC LIMIT 21;
ROLLBACK;
