//! JSON objects of which a few fields are changed and all others stay as they are written: unknown ones, their order, numbers
//! that no type of this program can hold.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Error;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON object in its own words.
#[derive(Debug, Clone, Default)]
pub(super) struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Reads an object; one that has a field twice is refused, for readers disagree about what it says.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes)
    }

    /// Returns a field that is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        (value.get() != "null").then_some(value)
    }

    /// Reads a field that is there and not null.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Result<Option<T>, Error> {
        self.get(name).map(|value| serde_json::from_str(value.get())).transpose()
    }

    /// Sets a field in its place, or adds it at the end.
    pub(super) fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let value = to_raw_value(value)?;
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Takes a field away.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut fields: Vec<(String, Box<RawValue>)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if fields.iter().any(|(known, _)| *known == name) {
                        let name = name.escape_debug();
                        return Err(serde::de::Error::custom(format!("the field `{name}` is there twice")));
                    }
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays_as_it_is_written() {
        let text = r#"{"z":1.0,"a":{"x": 10000000000000000000000000.50,"b":null},"n":null,"c":[1,  2]}"#;
        let mut object = Object::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), text);
        assert!(object.get("n").is_none() && object.get("none").is_none());
        assert_eq!(object.read::<Vec<u8>>("c").unwrap(), Some(vec![1, 2]));
        object.set("z", &2).unwrap();
        object.set("new", &"x").unwrap();
        object.remove("n");
        assert_eq!(
            serde_json::to_string(&object).unwrap(),
            r#"{"z":2,"a":{"x": 10000000000000000000000000.50,"b":null},"c":[1,  2],"new":"x"}"#
        );
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        let error = Object::parse(br#"{"a":1,"b":2,"a":3}"#).unwrap_err().to_string();
        assert!(error.contains("`a` is there twice"), "{error}");
        assert!(Object::parse(b"[1]").is_err());
    }
}
