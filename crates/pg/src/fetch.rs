//! The way to select entities: their columns are read in order. sea-orm's `all` and `one` would
//! search each value by column name in a map, which is slow for rows of a foreign driver.

use sea_orm::{
    ActiveModelTrait, DbBackend, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn,
    QuerySelect, QueryTrait, Select, SelectTwo, Statement, TryIntoModel,
};

use crate::{Error, Result, Row, Transaction, sea_orm_adapter::value};

/// A query that selects the columns of one or two entities.
pub trait Fetch: QuerySelect + Send + Sized {
    /// The type of a row.
    type Of;

    /// Runs the query.
    ///
    /// # Errors
    ///
    /// When the query fails, or the selected columns are not those of the entities.
    fn fetch(
        self,
        scope: &(impl AsRef<Transaction> + Sync),
    ) -> impl Future<Output = Result<Vec<Self::Of>>> + Send;

    /// Runs the query for its first row.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    fn fetch_one(
        self,
        scope: &(impl AsRef<Transaction> + Sync),
    ) -> impl Future<Output = Result<Option<Self::Of>>> + Send {
        let first = self.limit(1).fetch(scope);
        async { Ok(first.await?.into_iter().next()) }
    }
}

impl<E> Fetch for Select<E>
where
    E: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
{
    type Of = E::Model;

    fn fetch(
        self,
        scope: &(impl AsRef<Transaction> + Sync),
    ) -> impl Future<Output = Result<Vec<E::Model>>> + Send {
        run(self.build(DbBackend::Postgres), scope, |rows| {
            check::<E>(rows, 0, "")?;
            rows.iter().map(|row| model::<E>(row, 0)).collect()
        })
    }
}

/// The second model is `None` if the outer join found no row.
impl<E, F> Fetch for SelectTwo<E, F>
where
    E: EntityTrait,
    F: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
    F::ActiveModel: TryIntoModel<F::Model>,
{
    type Of = (E::Model, Option<F::Model>);

    fn fetch(
        self,
        scope: &(impl AsRef<Transaction> + Sync),
    ) -> impl Future<Output = Result<Vec<Self::Of>>> + Send {
        run(self.build(DbBackend::Postgres), scope, |rows| {
            let second = E::Column::iter().count();
            check::<E>(rows, 0, "A_")?;
            check::<F>(rows, second, "B_")?;
            let both = |row| {
                let other = is_there::<F>(row, second)?.then(|| model::<F>(row, second));
                Ok((model::<E>(row, 0)?, other.transpose()?))
            };
            rows.iter().map(both).collect()
        })
    }
}

/// Runs the statement and reads its rows. Boxed, because resolvers carry it, and the executor moves
/// the future of each field several times.
fn run<T>(
    Statement { sql, values, .. }: Statement,
    scope: &(impl AsRef<Transaction> + Sync),
    read: impl FnOnce(&[Row]) -> Result<T> + Send,
) -> impl Future<Output = Result<T>> + Send {
    Box::pin(async move { read(&scope.as_ref().query(&sql, values).await?.rows) })
}

/// Verifies that the columns from this index on are those of the entity.
fn check<E: EntityTrait>(rows: &[Row], from: usize, prefix: &str) -> Result<()> {
    let Some(row) = rows.first() else {
        return Ok(());
    };
    let mut selected = row.columns().iter().skip(from);
    let is_next = |column: E::Column| {
        let name = selected.next().and_then(|selected| selected.name().strip_prefix(prefix));
        name == Some(column.as_str())
    };
    if E::Column::iter().all(is_next) {
        Ok(())
    } else {
        Err(Error::statement("the selected columns are not those of the entity"))
    }
}

/// Whether the outer join found a row, which then has a primary key.
fn is_there<E: EntityTrait>(row: &Row, from: usize) -> Result<bool> {
    let keys = E::PrimaryKey::iter().map(|key| key.into_column().as_str());
    for key in keys {
        if let Some(index) = E::Column::iter().position(|column| column.as_str() == key) {
            let value = value(row, from + index)?;
            if value == value.as_null() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn model<E>(row: &Row, from: usize) -> Result<E::Model>
where
    E: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
{
    let mut model = <E::ActiveModel as ActiveModelTrait>::default();
    for (column, index) in E::Column::iter().zip(from..) {
        model.try_set(column, value(row, index)?)?;
    }
    Ok(model.try_into_model()?)
}
