-- Gives the current user a name that their tokens no longer change. Without p_name the name follows
-- the tokens again, from the newest identity that has one.
CREATE OR REPLACE FUNCTION auth.rename_viewer(p_name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
DECLARE
    caller_id uuid := auth.current_user_id();
    before    auth.users;
    new_name  text;
BEGIN
    -- Before the user's row: a move locks its members while it holds the placement.
    PERFORM pg_advisory_xact_lock_shared(app.placement_lock(m.organization_id))
        FROM (SELECT o.organization_id FROM auth.organization_members o WHERE o.user_id = caller_id ORDER BY 1) m;
    SELECT * INTO before FROM auth.users u WHERE u.id = caller_id FOR NO KEY UPDATE;
    new_name := coalesce(p_name, (
        SELECT i.profile ->> 'name' FROM auth.identities i
            WHERE i.user_id = caller_id AND i.profile ? 'name' ORDER BY i.updated_at DESC LIMIT 1));
    IF new_name IS NOT DISTINCT FROM before.name AND (p_name IS NULL) = (before.named_at IS NULL) THEN
        RETURN;
    END IF;
    UPDATE auth.users u SET name = new_name, named_at = CASE WHEN p_name IS NOT NULL THEN now() END WHERE u.id = caller_id;
END
$$;
