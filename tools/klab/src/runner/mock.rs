//! A machine that does what a test tells it.

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;

use super::machine::{Consoles, Machine, Runner, Running, lettered};
use crate::guest::job::Share;

/// What the guest does when it is started.
type Script = dyn Fn(&Machine, &mut dyn Write, &mut dyn Write) + Sync + Send;

pub struct Mock {
    pub script: Box<Script>,
    /// Whether the guest ever ends by itself.
    pub ends: bool,
    pub started: Mutex<Vec<Machine>>,
}

impl Mock {
    pub fn new(
        script: impl Fn(&Machine, &mut dyn Write, &mut dyn Write) + Sync + Send + 'static,
    ) -> Self {
        Self {
            script: Box::new(script),
            ends: true,
            started: Mutex::new(Vec::new()),
        }
    }
}

impl Runner for Mock {
    fn start(&self, machine: &Machine, mut consoles: Consoles) -> Result<Box<dyn Running>> {
        let mut output = consoles.command.take().expect("tests have no terminal");
        (self.script)(machine, &mut consoles.kernel, &mut output);
        self.started.lock().unwrap().push(machine.clone());
        Ok(Box::new(Done {
            ends: self.ends,
            _output: (!self.ends).then_some(output),
        }))
    }

    fn console(&self) -> &'static str {
        "/dev/console"
    }

    fn share(&self, _: &Path) -> Result<Share> {
        Ok(Share::default())
    }

    fn disk(&self, number: usize) -> String {
        lettered("/dev/sd", number)
    }
}

struct Done {
    ends: bool,
    _output: Option<std::io::PipeWriter>,
}

impl Running for Done {
    fn ended(&mut self) -> Result<bool> {
        Ok(self.ends)
    }

    fn kill(&mut self) {
        self.ends = true;
        self._output = None;
    }
}
