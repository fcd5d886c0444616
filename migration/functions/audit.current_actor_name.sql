-- The name of the current user, for audit entries.
CREATE OR REPLACE FUNCTION audit.current_actor_name() RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT coalesce(u.name, u.email) FROM auth.users u WHERE u.id = auth.current_user_id());
