BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT set_config('backtrace_functions', concat('tenantry_', md5('organization' || :n), '_', md5('user' || :n || '-' || :k)), true);
SELECT organization_id, id, name, description, created_by, created_at, updated_at FROM projects WHERE organization_id = md5('organization' || :n)::uuid ORDER BY created_at DESC, id DESC LIMIT 21;
ROLLBACK;
