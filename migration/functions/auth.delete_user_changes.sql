-- In the control database: the users of these changes were copied.
CREATE OR REPLACE FUNCTION auth.delete_user_changes(p_numbers bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
    DELETE FROM auth.user_changes WHERE number = ANY (p_numbers)
$$;
