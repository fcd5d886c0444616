//! Rows as the models of entities. sea-orm would find each value of a row by its column's name, among others, in rows that do not come
//! from a driver of its own; here they are taken in the order in which they were selected.

use sea_orm::{
    ActiveModelTrait, DbBackend, EntityTrait, IdenStatic, Iterable, QueryTrait, Select, Statement,
    TryIntoModel,
};
use tokio_postgres::Row;

use super::{Session, driver::value};
use crate::error::{Error, Result};

/// What entities select, as models.
pub trait Rows<E: EntityTrait> {
    /// Runs the statement, which selects all of the entity's columns and nothing else.
    ///
    /// # Errors
    ///
    /// When the statement fails, or has selected something else.
    fn rows(self, session: &Session) -> impl Future<Output = Result<Vec<E::Model>>> + Send;
}

impl<E> Rows<E> for Select<E>
where
    E: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
{
    async fn rows(self, session: &Session) -> Result<Vec<E::Model>> {
        let Statement { sql, values, .. } = self.build(DbBackend::Postgres);
        let rows = session.transaction().query(&sql, values).await?.rows;
        if let Some(row) = rows.first() {
            let selected = row.columns().iter().map(tokio_postgres::Column::name);
            if !E::Column::iter().map(|column| column.as_str()).eq(selected) {
                return Err(Error::internal(format!("not the columns of an entity: {sql}")));
            }
        }
        rows.iter().map(model::<E>).collect()
    }
}

fn model<E>(row: &Row) -> Result<E::Model>
where
    E: EntityTrait,
    E::ActiveModel: TryIntoModel<E::Model>,
{
    let mut model = <E::ActiveModel as ActiveModelTrait>::default();
    for (index, (column, selected)) in E::Column::iter().zip(row.columns()).enumerate() {
        model.try_set(column, value(row, index, selected.type_())?)?;
    }
    Ok(model.try_into_model()?)
}
