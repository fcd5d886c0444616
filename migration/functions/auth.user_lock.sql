-- The key of the lock that copying a user to a dedicated database and erasing the user take.
CREATE OR REPLACE FUNCTION auth.user_lock(p_user uuid) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT hashtextextended('user ' || p_user::text, 0)
$$;
