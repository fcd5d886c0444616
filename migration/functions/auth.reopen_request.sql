-- Opens the session of a request again, for a query with the token with which auth.open_request has
-- opened one in the same organization. Returns false and applies nothing unless every row that
-- decided that result is still the same, as p_version says: the transactions that wrote the rows
-- of the identity, the membership, the organization, its billing and its placement, and
-- the start of PostgreSQL, because a restored backup or a promoted standby may assign the same
-- transaction ids again. Equal rows and an equal token have the same result. These checks of
-- auth.open_request are not repeated:
--
-- - The slug: the server calls this only for the organization's current slug, which is in the row
--   of the organization and which no other organization can have.
-- - Placement and suspension: only for an organization in the shared tables that is not suspended,
--   which is in the row of the placement, or follows from its absence.
-- - The placement lock: only for a transaction that reads.
--
-- p_proof is a proof of the caller, the organization and the version: see auth.open_request.
CREATE OR REPLACE FUNCTION auth.reopen_request(
    p_issuer text, p_subject text, p_organization uuid, p_version text, p_proven_at bigint, p_proof bytea
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = auth, app, billing, pg_temp AS $$
DECLARE
    session text;
BEGIN
    -- As in auth.open_request.
    RESET ALL;
    -- One statement, because each one and each expression costs more than a look-up.
    SELECT CASE WHEN m.user_id IS NOT NULL THEN app.set_session(p_organization, m.user_id, m.role::text) END INTO session
        FROM (SELECT FROM auth.proof_keys k
              WHERE k.updated_at > now() - interval '30 days'
                AND to_timestamp(p_proven_at) BETWEEN now() - interval '5 minutes' AND now() + interval '5 minutes'
                AND current_setting('transaction_read_only') = 'on'
                AND sha256(p_proof) = sha256(sha256(k.outer_block || sha256(k.inner_block || convert_to(concat(
                    p_proven_at, ' reopen ', octet_length(p_issuer), ':', p_issuer, ' ', octet_length(p_subject), ':', p_subject,
                    ' 36:', p_organization, ' ', octet_length(p_version), ':', p_version), 'UTF8')))) LIMIT 1) k
            LEFT JOIN auth.identities i ON i.issuer = p_issuer AND i.subject = p_subject
            LEFT JOIN auth.organization_members m ON m.organization_id = p_organization AND m.user_id = i.user_id
            LEFT JOIN app.organizations o ON o.id = p_organization
            LEFT JOIN billing.organization_billing b ON b.organization_id = p_organization
            LEFT JOIN app.placements p ON p.organization_id = p_organization
        WHERE concat(i.xmin, ' ', m.xmin, ' ', o.xmin, ' ', b.xmin, ' ', p.xmin,
                     ' ', pg_postmaster_start_time()) = p_version;
    RETURN session IS NOT NULL;
END
$$;
