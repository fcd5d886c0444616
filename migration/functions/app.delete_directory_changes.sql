-- In a dedicated database: the control database has applied these changes.
CREATE OR REPLACE FUNCTION app.delete_directory_changes(p_numbers bigint[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS $$
    DELETE FROM app.directory_changes WHERE number = ANY (p_numbers)
$$;
