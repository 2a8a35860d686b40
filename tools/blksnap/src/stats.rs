// SPDX-License-Identifier: GPL-2.0

//! What a snapshot is doing, as the driver tells it in debugfs.
//!
//! The text has a name and a value in each line: first those of the snapshot,
//! then, after a line `device MAJOR:MINOR`, those of each of its devices. Names
//! that this program does not know are shown all the same. What the driver counts
//! in sectors is turned into bytes here, as all sizes of this program are bytes.

use crate::cli::human;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Bytes of a sector, in which the driver counts storage.
const SECTOR: u64 = 512;

/// What is counted in sectors starts with this, ...
const IN_SECTORS: &str = "storage_";

/// ... and what is counted in bytes has this in its name.
const IN_BYTES: &str = "bytes";

/// A value of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number that only grows, or a level.
    Number(u64),
    /// A number below zero, which is an error code.
    Negative(i64),
    /// Anything else.
    Text(String),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Negative(number) => serializer.serialize_i64(*number),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Number(number) => number.fmt(f),
            Value::Negative(number) => number.fmt(f),
            Value::Text(text) => text.fmt(f),
        }
    }
}

impl Value {
    fn parse(name: &str, text: &str) -> Self {
        if let Ok(number) = text.parse::<u64>() {
            return Value::Number(match name.starts_with(IN_SECTORS) {
                true => number.saturating_mul(SECTOR),
                false => number,
            });
        }
        match text.parse() {
            Ok(number) => Value::Negative(number),
            Err(_) => Value::Text(text.to_owned()),
        }
    }

    /// As people read the value of that name.
    pub fn human(&self, name: &str) -> String {
        match self {
            Value::Number(bytes) if name.starts_with(IN_SECTORS) || name.contains(IN_BYTES) => {
                human(*bytes)
            }
            _ => self.to_string(),
        }
    }
}

/// Lines, by name.
pub type Values = BTreeMap<String, Value>;

/// One device of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceStatistics {
    /// Major and minor number of the original.
    pub device: String,
    /// Its lines.
    #[serde(flatten)]
    pub values: Values,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Its identity.
    pub id: Uuid,
    /// Its lines.
    #[serde(flatten)]
    pub values: Values,
    /// Its devices, in the order in which they were added.
    pub devices: Vec<DeviceStatistics>,
}

impl Statistics {
    /// Reads the driver's text. What is not such a line is left out.
    pub fn parse(id: Uuid, text: &str) -> Self {
        let mut statistics = Statistics {
            id,
            values: Values::new(),
            devices: Vec::new(),
        };
        for line in text.lines() {
            let Some((name, value)) = line.trim().split_once(char::is_whitespace) else {
                continue;
            };
            let value = value.trim();
            if name == "device" {
                statistics.devices.push(DeviceStatistics {
                    device: value.to_owned(),
                    values: Values::new(),
                });
                continue;
            }
            let values = match statistics.devices.last_mut() {
                Some(device) => &mut device.values,
                None => &mut statistics.values,
            };
            values.insert(name.to_owned(), Value::parse(name, value));
        }
        statistics
    }

    /// Of the snapshot, or the sum over its devices.
    pub fn number(&self, name: &str) -> u64 {
        match self.values.get(name) {
            Some(Value::Number(number)) => *number,
            Some(_) => 0,
            None => self.devices.iter().map(|d| d.number(name)).sum(),
        }
    }

    /// Bytes of storage that are taken, there, and possible.
    pub fn storage(&self) -> [u64; 3] {
        ["storage_used", "storage_capacity", "storage_limit"].map(|name| self.number(name))
    }

    /// Bytes that the storage may grow to, if the driver tells.
    pub fn limit(&self) -> Option<u64> {
        match self.values.get("storage_limit") {
            Some(Value::Number(limit)) => Some(*limit),
            _ => None,
        }
    }

    /// In a word.
    pub fn state(&self) -> String {
        self.values
            .get("state")
            .map_or_else(|| "unknown".to_owned(), Value::to_string)
    }
}

impl DeviceStatistics {
    /// The value of that name if it is a number, else 0.
    pub fn number(&self, name: &str) -> u64 {
        match self.values.get(name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "state held\nstorage_used 16\nstorage_capacity 2048\nstorage_limit 4096\n\
                        device 8:1\nbytes_copied 8192\nimage_reads 3\n\
                        device 8:2\nbytes_copied 4096\nimage_reads 0\nnew_thing yes\n";

    #[test]
    fn lines_belong_to_the_snapshot_or_to_a_device() {
        let s = Statistics::parse(Uuid::nil(), TEXT);
        assert_eq!(s.state(), "held");
        assert_eq!(s.storage(), [8192, 1 << 20, 2 << 20]);
        assert_eq!(s.number("bytes_copied"), 12288);
        assert_eq!(s.devices.len(), 2);
        assert_eq!(s.devices[0].device, "8:1");
        assert_eq!(s.devices[0].number("image_reads"), 3);
        assert_eq!(s.devices[1].values["new_thing"], Value::Text("yes".into()));
        assert_eq!(s.devices[1].number("new_thing"), 0);
    }

    #[test]
    fn what_is_not_a_line_is_left_out() {
        let s = Statistics::parse(Uuid::nil(), "\nalone\n  \nextents 7\n");
        assert_eq!(s.values.len(), 1);
        assert_eq!(s.number("extents"), 7);
        assert_eq!(s.number("missing"), 0);
        assert_eq!(s.state(), "unknown");
        assert_eq!(s.limit(), None);
    }

    #[test]
    fn numbers_are_numbers_in_json() {
        let s = Statistics::parse(Uuid::nil(), TEXT);
        let json = serde_json::to_value(&s).unwrap();
        assert_eq!(json["storage_used"], 8192);
        assert_eq!(json["devices"][1]["bytes_copied"], 4096);
        assert_eq!(json["devices"][1]["new_thing"], "yes");
    }

    #[test]
    fn an_error_is_a_number_whether_there_is_one_or_not() {
        for error in [0, -28] {
            let text = format!("state held\ndevice 8:1\nerror {error}\n");
            let s = Statistics::parse(Uuid::nil(), &text);
            let json = serde_json::to_value(&s).unwrap();
            assert_eq!(json["devices"][0]["error"], error);
            assert_eq!(s.devices[0].values["error"].to_string(), error.to_string());
        }
    }

    #[test]
    fn sizes_are_bytes_and_people_read_them_with_units() {
        let s = Statistics::parse(Uuid::nil(), TEXT);
        assert_eq!(s.number("storage_capacity"), 1 << 20);
        assert_eq!(s.limit(), Some(2 << 20));
        let human = |values: &Values, name: &str| values[name].human(name);
        assert_eq!(human(&s.values, "storage_limit"), "2 MiB");
        assert_eq!(human(&s.devices[0].values, "bytes_copied"), "8 KiB");
        assert_eq!(human(&s.devices[0].values, "image_reads"), "3");
        assert_eq!(human(&s.values, "state"), "held");
        // Beyond what can be: no error, and no small number.
        let s = Statistics::parse(Uuid::nil(), &format!("storage_limit {}\n", u64::MAX));
        assert_eq!(s.limit(), Some(u64::MAX));
    }
}
