//! Functions, which are applied again whenever their text changes.

use pg::Client;

/// The functions whose text differs from the one in the database, as a statement that servers may
/// run. Its parameters are the names and the texts.
pub const OUTDATED: &str = "SELECT f.name FROM unnest($1::text[], $2::text[]) f (name, text)
    WHERE NOT EXISTS (SELECT FROM migration.functions m
                      WHERE m.name = f.name AND m.digest = sha256(convert_to(f.text, 'UTF8')))";

/// Applies every function whose text differs from the one in the database, all in one transaction,
/// and returns their names.
pub(crate) async fn apply(
    connection: &mut Client,
    names: &[String],
    texts: &[String],
) -> pg::Result<Vec<String>> {
    let transaction = connection.begin().await?;
    let outdated: Vec<String> = transaction.query(OUTDATED, &[&names, &texts]).await?;
    for (name, text) in names.iter().zip(texts).filter(|(name, _)| outdated.contains(name)) {
        transaction.batch(text).await?;
        let record = "INSERT INTO migration.functions (name, digest)
            VALUES ($1, sha256(convert_to($2, 'UTF8')))
            ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = now()";
        transaction.execute(record, &[&name, &text]).await?;
    }
    transaction.commit().await?;
    Ok(outdated)
}
