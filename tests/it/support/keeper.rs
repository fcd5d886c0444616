//! Processes that end with this one, however it ends: the kernel tells them when the *thread* that
//! started them is gone, so one thread starts them all and lives as long as the process.

use std::{
    process::{Child, Command},
    sync::{Mutex, OnceLock, PoisonError, mpsc},
    thread,
};

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

static KEEPER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();

/// A command that gets this signal when we are gone, where the system can do that.
pub fn ending_with_us(program: impl AsRef<std::ffi::OsStr>, signal: &str) -> Command {
    let setpriv = std::path::Path::new("/usr/bin/setpriv");
    if !setpriv.is_file() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", signal, "--"]).arg(program);
    command
}

/// Starts it.
pub fn spawn(command: Command) -> Child {
    let keeper = KEEPER.get_or_init(|| {
        let (send, receive) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in receive {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(send)
    });
    let (send, receive) = mpsc::channel();
    keeper.lock().unwrap_or_else(PoisonError::into_inner).send((command, send)).unwrap();
    receive.recv().unwrap().unwrap()
}
