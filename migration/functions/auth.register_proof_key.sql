-- Registers the key with which a server proves its callers, for 30 days from the last registration.
-- Several keys are valid at once, so that secrets can be rotated while servers run.
CREATE OR REPLACE FUNCTION auth.register_proof_key(p_inner_block bytea, p_outer_block bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, pg_temp AS $$
BEGIN
    INSERT INTO auth.proof_keys AS k (inner_block, outer_block) VALUES (p_inner_block, p_outer_block)
        ON CONFLICT (inner_block) DO UPDATE SET outer_block = excluded.outer_block
        WHERE k.updated_at < now() - interval '1 hour';
    DELETE FROM auth.proof_keys k WHERE k.updated_at < now() - interval '30 days';
END
$$;
