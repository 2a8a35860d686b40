//! What a measurement was made on, and when.

use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use crate::exec::text_of;
use crate::setup::machine::meminfo;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_mib: u64,
    /// Year, month and day.
    pub date: String,
}

impl Machine {
    /// This one, today.
    pub fn now() -> Result<Self> {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let date = text_of(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
        Ok(Self {
            processor: processor(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: meminfo(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) >> 20,
            date: date.trim().to_owned(),
        })
    }

    /// For people.
    pub fn line(&self) -> String {
        format!(
            "{}: {}, {} cores, {} GiB of memory",
            self.date,
            self.processor,
            self.cores,
            (self.memory_mib + 512) >> 10
        )
    }
}

fn processor(text: &str) -> String {
    let name = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "model name").then(|| value.trim().to_owned())
    });
    name.unwrap_or_else(|| "unknown processor".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_what_the_kernel_says() {
        let text = "processor\t: 0\nmodel name\t: Some CPU\nmodel name\t: Other\n";
        assert_eq!(processor(text), "Some CPU");
        assert_eq!(processor(""), "unknown processor");
        let machine = Machine {
            processor: "Some CPU".into(),
            cores: 2,
            memory_mib: 24110,
            date: "2026-01-02".into(),
        };
        let line = machine.line();
        assert_eq!(line, "2026-01-02: Some CPU, 2 cores, 24 GiB of memory");
        assert_eq!(Machine::now().unwrap().date.len(), 10);
    }
}
