-- In the control database: which users have changed and which dedicated database has to copy them,
-- oldest change first, except for the databases p_except.
CREATE OR REPLACE FUNCTION auth.pending_user_changes(p_limit integer, p_except text[])
RETURNS TABLE (number bigint, user_id uuid, database text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    SELECT c.number, c.user_id, c.database FROM auth.user_changes c WHERE c.database <> ALL (p_except) ORDER BY c.number LIMIT p_limit
$$;
