//! Values in and out of both databases: four kinds, and nothing that only one of them has.

use crate::{Result, StoreError};
use bytes_of::IdBytes;
use fettle_domain::Timestamp;
use postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};

/// One value. Booleans are 0 and 1, times Unix milliseconds, ids sixteen bytes, JSON text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// SQL NULL.
    Null,
    /// BIGINT.
    Int(i64),
    /// DOUBLE PRECISION.
    Real(f64),
    /// TEXT.
    Text(String),
    /// BLOB or BYTEA.
    Blob(Vec<u8>),
}

/// One row of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    fn wrong(&self, column: usize, wanted: &str) -> StoreError {
        StoreError::Corrupt { what: format!("column {column} is not {wanted}: {:?}", self.0.get(column)) }
    }

    /// A BIGINT.
    pub fn int(&self, column: usize) -> Result<i64> {
        match self.0.get(column) {
            Some(Value::Int(value)) => Ok(*value),
            _ => Err(self.wrong(column, "a number")),
        }
    }

    /// A BIGINT or NULL.
    pub fn int_or_null(&self, column: usize) -> Result<Option<i64>> {
        if matches!(self.0.get(column), Some(Value::Null)) { Ok(None) } else { self.int(column).map(Some) }
    }

    /// A DOUBLE PRECISION (a whole number counts).
    pub fn real(&self, column: usize) -> Result<f64> {
        match self.0.get(column) {
            Some(Value::Real(value)) => Ok(*value),
            #[allow(clippy::cast_precision_loss)]
            Some(Value::Int(value)) => Ok(*value as f64),
            _ => Err(self.wrong(column, "a real number")),
        }
    }

    /// A DOUBLE PRECISION or NULL.
    pub fn real_or_null(&self, column: usize) -> Result<Option<f64>> {
        if matches!(self.0.get(column), Some(Value::Null)) { Ok(None) } else { self.real(column).map(Some) }
    }

    /// 0 or 1.
    pub fn bool(&self, column: usize) -> Result<bool> {
        Ok(self.int(column)? != 0)
    }

    /// TEXT.
    pub fn text(&self, column: usize) -> Result<&str> {
        match self.0.get(column) {
            Some(Value::Text(value)) => Ok(value),
            _ => Err(self.wrong(column, "a text")),
        }
    }

    /// TEXT or NULL.
    pub fn text_or_null(&self, column: usize) -> Result<Option<&str>> {
        if matches!(self.0.get(column), Some(Value::Null)) { Ok(None) } else { self.text(column).map(Some) }
    }

    /// BLOB or BYTEA.
    pub fn blob(&self, column: usize) -> Result<&[u8]> {
        match self.0.get(column) {
            Some(Value::Blob(value)) => Ok(value),
            _ => Err(self.wrong(column, "bytes")),
        }
    }

    /// BLOB or NULL.
    pub fn blob_or_null(&self, column: usize) -> Result<Option<&[u8]>> {
        if matches!(self.0.get(column), Some(Value::Null)) { Ok(None) } else { self.blob(column).map(Some) }
    }

    /// An id of the wanted kind.
    pub fn id<T: IdBytes>(&self, column: usize) -> Result<T> {
        let bytes: [u8; 16] = self.blob(column)?.try_into().map_err(|_| self.wrong(column, "an id"))?;
        Ok(T::from_id_bytes(bytes))
    }

    /// An id or NULL.
    pub fn id_or_null<T: IdBytes>(&self, column: usize) -> Result<Option<T>> {
        if matches!(self.0.get(column), Some(Value::Null)) { Ok(None) } else { self.id(column).map(Some) }
    }

    /// A moment.
    pub fn time(&self, column: usize) -> Result<Timestamp> {
        self.int(column).map(Timestamp::from_unix_millis)
    }

    /// A moment or NULL.
    pub fn time_or_null(&self, column: usize) -> Result<Option<Timestamp>> {
        Ok(self.int_or_null(column)?.map(Timestamp::from_unix_millis))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}
impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Int(i64::from(value))
    }
}
impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Int(i64::from(value))
    }
}
impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Real(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Value::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}
impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Value::Text(value.clone())
    }
}
impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Value::Blob(value)
    }
}
impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Value::Blob(value.to_vec())
    }
}
impl From<Timestamp> for Value {
    fn from(value: Timestamp) -> Self {
        Value::Int(value.unix_millis())
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// Ids as the sixteen bytes a database keeps.
pub(crate) mod bytes_of {
    use super::Value;
    use fettle_domain::*;

    /// An id that can be kept in sixteen bytes.
    pub trait IdBytes {
        /// From the sixteen bytes.
        fn from_id_bytes(bytes: [u8; 16]) -> Self;
    }

    macro_rules! id_values {
        ($($name:ident),*) => {$(
            impl From<$name> for Value {
                fn from(id: $name) -> Self { Value::Blob(id.as_bytes().to_vec()) }
            }
            impl From<&$name> for Value {
                fn from(id: &$name) -> Self { Value::Blob(id.as_bytes().to_vec()) }
            }
            impl IdBytes for $name {
                fn from_id_bytes(bytes: [u8; 16]) -> Self { $name::from_bytes(bytes) }
            }
        )*};
    }
    id_values!(
        HostId,
        GroupId,
        EnrolmentTokenId,
        FindingId,
        ChangeId,
        PlanId,
        RolloutId,
        DeploymentId,
        RehearsalId,
        LogRequestId,
        UserId,
        SessionId,
        ApiTokenId
    );
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::{ToSqlOutput, ValueRef};
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Int(value) => ValueRef::Integer(*value),
            Value::Real(value) => ValueRef::Real(*value),
            Value::Text(value) => ValueRef::Text(value.as_bytes()),
            Value::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

pub(crate) fn from_sqlite(value: rusqlite::types::ValueRef<'_>) -> Result<Value> {
    use rusqlite::types::ValueRef;
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Real(value) => Value::Real(value),
        ValueRef::Text(value) => Value::Text(
            String::from_utf8(value.to_vec())
                .map_err(|_| StoreError::Corrupt { what: "text that is not UTF-8".into() })?,
        ),
        ValueRef::Blob(value) => Value::Blob(value.to_vec()),
    })
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) => match *ty {
                Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
                Type::INT2 => i16::try_from(*value)?.to_sql(ty, out),
                Type::BOOL => (*value != 0).to_sql(ty, out),
                #[allow(clippy::cast_precision_loss)]
                Type::FLOAT8 => (*value as f64).to_sql(ty, out),
                Type::INT8 => value.to_sql(ty, out),
                _ => Err(format!("a number was bound where PostgreSQL expects {ty}").into()),
            },
            Value::Real(value) => value.to_sql(ty, out),
            // PostgreSQL text cannot hold NUL; hostile input must not make a whole group fail.
            Value::Text(value) if value.contains('\0') => value.replace('\0', "\u{fffd}").to_sql(ty, out),
            Value::Text(value) => value.to_sql(ty, out),
            Value::Blob(value) => value.to_sql(ty, out),
        }
    }
    fn accepts(_: &Type) -> bool {
        true
    }
    to_sql_checked!();
}

pub(crate) fn from_postgres(row: &postgres::Row) -> Result<Vec<Value>> {
    row.columns()
        .iter()
        .enumerate()
        .map(|(index, column)| {
            Ok(match *column.type_() {
                Type::INT8 => row.try_get::<_, Option<i64>>(index)?.into(),
                Type::INT4 => row.try_get::<_, Option<i32>>(index)?.map(i64::from).into(),
                Type::INT2 => row.try_get::<_, Option<i16>>(index)?.map(i64::from).into(),
                Type::BOOL => row.try_get::<_, Option<bool>>(index)?.into(),
                Type::FLOAT8 => row.try_get::<_, Option<f64>>(index)?.into(),
                Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(index)?.into(),
                Type::TEXT | Type::VARCHAR | Type::NAME => row.try_get::<_, Option<String>>(index)?.into(),
                ref other => {
                    return Err(StoreError::Refused {
                        cause: format!(
                            "column `{}` has type {other}; CAST it to BIGINT, DOUBLE PRECISION, TEXT or bytes",
                            column.name()
                        ),
                    });
                }
            })
        })
        .collect()
}
