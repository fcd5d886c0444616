-- The message that the proof of a call of auth.open_request signs: the caller and the names of the
-- organization. Each text follows its length, so that two different calls never have the same
-- message. PostgreSQL inlines this function.
CREATE OR REPLACE FUNCTION auth.open_message(
    p_issuer text, p_subject text, p_path text, p_claim text, p_email text, p_issued_micros text
) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat(
        'open ', octet_length(p_issuer), ':', p_issuer, ' ', octet_length(p_subject), ':', p_subject,
        ' ', octet_length(p_path), ':', p_path, ' ', octet_length(p_claim), ':', p_claim,
        ' ', octet_length(p_email), ':', p_email, ' ', octet_length(p_issued_micros), ':', p_issued_micros)
$$;
