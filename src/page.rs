//! Keyset paging (GraphQL Cursor Connections Specification): arguments become a query, and its
//! rows become a [`Slice`].
//!
//! Lists are sorted by `created_at DESC, id DESC`, and a cursor is that pair. Pages therefore
//! neither skip nor repeat a row while other rows are added or deleted.

use async_graphql::connection::CursorType;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect, Select,
    sea_query::{Expr, ExprTrait, SimpleExpr},
};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The page size when the client gives none.
pub const DEFAULT_SIZE: usize = 20;

/// The largest page size.
pub const MAX_SIZE: usize = 100;

/// The position of a row in its list. Times have PostgreSQL's precision, one microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// `created_at`
    pub at: DateTime<Utc>,
    /// `id`
    pub id: Uuid,
}

/// A row that has a position in a list.
pub trait Keyed {
    /// Returns that position.
    fn cursor(&self) -> Cursor;
}

impl CursorType for Cursor {
    type Error = &'static str;

    fn decode_cursor(text: &str) -> Result<Self, Self::Error> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| "not a cursor")?;
        let (at, id) = bytes.split_at_checked(8).ok_or("not a cursor")?;
        let micros = i64::from_be_bytes(at.try_into().map_err(|_| "not a cursor")?);
        let at = DateTime::from_timestamp_micros(micros)
            .filter(|at| (1..=9999).contains(&chrono::Datelike::year(at)))
            .ok_or("not a cursor")?;
        Ok(Self { at, id: Uuid::from_slice(id).map_err(|_| "not a cursor")? })
    }

    fn encode_cursor(&self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.at.timestamp_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// The part of a list that a client requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Page {
    size: usize,
    backward: bool,
    after: Option<Cursor>,
    before: Option<Cursor>,
}

/// The rows of a page.
#[derive(Clone, Debug)]
pub struct Slice<T> {
    /// The rows in the order of the list, for `first` and for `last`.
    pub rows: Vec<T>,
    /// Whether the list has rows before these.
    pub has_previous_page: bool,
    /// Whether the list has rows after these.
    pub has_next_page: bool,
}

impl Page {
    /// Parses the arguments of a connection.
    ///
    /// # Errors
    ///
    /// If a size is out of range, both sizes are given, or a cursor is invalid.
    pub fn parse(
        first: Option<i32>,
        after: Option<&str>,
        last: Option<i32>,
        before: Option<&str>,
    ) -> Result<Self> {
        let (field, asked, backward) = match (first, last) {
            (Some(_), Some(_)) => {
                return Err(Error::bad_input("last", "give either first or last, not both"));
            }
            (_, Some(last)) => ("last", Some(last), true),
            (first, None) => ("first", first, false),
        };
        let size = match asked.map(usize::try_from) {
            None => DEFAULT_SIZE,
            Some(Ok(size)) if size <= MAX_SIZE => size,
            Some(_) => {
                return Err(Error::bad_input(field, format!("must be from 0 to {MAX_SIZE}")));
            }
        };
        Ok(Self {
            size,
            backward,
            after: cursor("after", after)?,
            before: cursor("before", before)?,
        })
    }

    /// Restricts a query to the page, plus one row that shows whether there are more.
    pub fn narrow<E: EntityTrait>(
        &self,
        select: Select<E>,
        created_at: E::Column,
        id: E::Column,
    ) -> Select<E> {
        let place = || Expr::tuple([col(created_at), col(id)]);
        let value = |cursor: Cursor| Expr::tuple([Expr::value(cursor.at), Expr::value(cursor.id)]);
        let mut select = select;
        if let Some(after) = self.after {
            select = select.filter(place().lt(value(after)));
        }
        if let Some(before) = self.before {
            select = select.filter(place().gt(value(before)));
        }
        select
            .order_by(created_at, self.order())
            .order_by(id, self.order())
            .limit(self.size as u64 + 1)
    }

    /// The order in which the rows of the page are read.
    #[must_use]
    pub fn order(&self) -> Order {
        if self.backward { Order::Asc } else { Order::Desc }
    }

    /// Turns the rows of the restricted query into a slice.
    #[must_use]
    pub fn slice<T>(&self, mut rows: Vec<T>) -> Slice<T> {
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        if self.backward {
            rows.reverse();
            Slice { rows, has_previous_page: more, has_next_page: self.before.is_some() }
        } else {
            Slice { rows, has_previous_page: self.after.is_some(), has_next_page: more }
        }
    }
}

fn cursor(field: &'static str, text: Option<&str>) -> Result<Option<Cursor>> {
    text.map(Cursor::decode_cursor)
        .transpose()
        .map_err(|_| Error::bad_input(field, "is not a cursor of this list"))
}

fn col<C: ColumnTrait>(column: C) -> SimpleExpr {
    Expr::col(column.as_column_ref())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(micros in 0_i64..4_000_000_000_000_000, id: u128) {
            let at = DateTime::from_timestamp_micros(micros).unwrap();
            let cursor = Cursor { at, id: Uuid::from_u128(id) };
            prop_assert_eq!(Cursor::decode_cursor(&cursor.encode_cursor()), Ok(cursor));
        }

        #[test]
        fn any_other_text_is_refused_without_a_panic(text: String) {
            let _ = Cursor::decode_cursor(&text);
        }
    }

    #[test]
    fn sizes_are_bounded_and_named() {
        for (first, last, field) in
            [(Some(-1), None, "first"), (Some(101), None, "first"), (None, Some(101), "last")]
        {
            let error = Page::parse(first, None, last, None).unwrap_err();
            assert!(matches!(error, Error::BadUserInput { field: found, .. } if found == field));
        }
        assert!(Page::parse(Some(1), None, Some(1), None).is_err());
        assert!(Page::parse(None, Some("?"), None, None).is_err());
        assert_eq!(Page::parse(None, None, None, None).unwrap().size, DEFAULT_SIZE);
    }

    #[test]
    fn one_row_too_many_means_there_is_more() {
        let page = Page::parse(Some(2), None, None, None).unwrap();
        let slice = page.slice(vec![1, 2, 3]);
        assert_eq!(
            (slice.rows, slice.has_previous_page, slice.has_next_page),
            (vec![1, 2], false, true)
        );
        let page = Page::parse(None, None, Some(2), None).unwrap();
        let slice = page.slice(vec![3, 2, 1]);
        assert_eq!(
            (slice.rows, slice.has_previous_page, slice.has_next_page),
            (vec![2, 3], true, false)
        );
    }
}
