//! Rows as the models of entities. sea-orm would find each value of a row by its column's name,
//! among others, in rows that do not come from a driver of its own; here they are taken in the
//! order in which they were selected.

use sea_orm::{
    ActiveModelTrait, DbBackend, EntityTrait, IdenStatic, Iterable, PrimaryKeyToColumn, QueryTrait,
    Select, SelectTwo, Statement, TryIntoModel,
};
use tokio_postgres::Row;

use super::{UnitOfWork, driver::value};
use crate::error::{Error, Result};

/// Statements that select the columns of entities.
pub trait Fetch {
    /// What a row is.
    type Of;

    /// Runs the statement.
    ///
    /// # Errors
    ///
    /// When it fails, or has selected something else.
    fn fetch(self, scope: &impl UnitOfWork) -> impl Future<Output = Result<Vec<Self::Of>>> + Send;
}

impl<E> Fetch for Select<E>
where
    E: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
{
    type Of = E::Model;

    async fn fetch(self, scope: &impl UnitOfWork) -> Result<Vec<E::Model>> {
        let rows = run(self.build(DbBackend::Postgres), scope).await?;
        check::<E>(&rows, 0, "")?;
        rows.iter().map(|row| model::<E>(row, 0)).collect()
    }
}

/// The second one as far as there is one.
impl<E, F> Fetch for SelectTwo<E, F>
where
    E: EntityTrait,
    F: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
    F::ActiveModel: TryIntoModel<F::Model>,
{
    type Of = (E::Model, Option<F::Model>);

    async fn fetch(self, scope: &impl UnitOfWork) -> Result<Vec<Self::Of>> {
        let rows = run(self.build(DbBackend::Postgres), scope).await?;
        let second = E::Column::iter().count();
        check::<E>(&rows, 0, "A_")?;
        check::<F>(&rows, second, "B_")?;
        let both = |row| {
            let other = is_there::<F>(row, second)?.then(|| model::<F>(row, second));
            Ok((model::<E>(row, 0)?, other.transpose()?))
        };
        rows.iter().map(both).collect()
    }
}

async fn run(statement: Statement, scope: &impl UnitOfWork) -> Result<Vec<Row>> {
    let Statement { sql, values, .. } = statement;
    Ok(scope.transaction().query(&sql, values).await?.rows)
}

/// The columns from there on are the entity's.
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
        Err(Error::internal("the columns that were selected are not an entity's"))
    }
}

/// An outer join has found it.
fn is_there<E: EntityTrait>(row: &Row, from: usize) -> Result<bool> {
    let keys = E::PrimaryKey::iter().map(|key| key.into_column().as_str());
    for key in keys {
        if let Some(index) = E::Column::iter().position(|column| column.as_str() == key) {
            let value = value(row, from + index, row.columns()[from + index].type_())?;
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
        model.try_set(column, value(row, index, row.columns()[index].type_())?)?;
    }
    Ok(model.try_into_model()?)
}
