//! Ctrl-C: what is durable stays, what it takes to go on is said, the exit code is 130.
//!
//! Nothing is unwound. Every state on disk is one from which the same command goes on, as after a `kill -9`. What a
//! command leaves elsewhere only for a while, it takes away first.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

static MESSAGE: Mutex<&str> = Mutex::new("");

/// Cleans up, and says in a sentence what came of it; nothing where there is nothing to say.
type Cleaner = Box<dyn FnOnce() -> String + Send>;

/// Whether an interruption is being dealt with.
static INTERRUPTED_NOW: AtomicBool = AtomicBool::new(false);

static CLEANER: Mutex<Option<Cleaner>> = Mutex::new(None);

/// Exit code of a command that was interrupted.
const INTERRUPTED: i32 = 130;

/// Takes over the signals for an interruption (INT, TERM, HUP).
pub fn listen() {
    // Without a handler the system's own behaviour stays, which loses no more than the message.
    ctrlc::set_handler(|| {
        INTERRUPTED_NOW.store(true, Ordering::SeqCst);
        let message = *MESSAGE.lock().unwrap_or_else(PoisonError::into_inner);
        let cleaner = CLEANER.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(cleaner) = cleaner {
            std::io::Write::write_all(&mut std::io::stderr(), b"\ncleaning up\n").ok();
            let said = cleaner();
            if !said.is_empty() {
                std::io::Write::write_all(&mut std::io::stderr(), format!("{said}\n").as_bytes()).ok();
            }
        }
        let text = if message.is_empty() {
            "\ninterrupted\n".to_owned()
        } else {
            format!("\ninterrupted; {message}\n")
        };
        std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).ok();
        std::process::exit(INTERRUPTED);
    })
    .ok();
}

/// Sets what is said on an interruption.
pub fn says(message: &'static str) {
    *MESSAGE.lock().unwrap_or_else(PoisonError::into_inner) = message;
}

/// Sets what takes away, on an interruption, what is to stay nowhere.
pub fn cleans(cleaner: impl FnOnce() -> String + Send + 'static) {
    *CLEANER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(cleaner));
}

/// Returns at once, unless an interruption is being dealt with: that ends the program, and nothing else is to be said.
pub fn gives_way() {
    while INTERRUPTED_NOW.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Takes back what [`cleans`] set.
pub fn is_clean() {
    *CLEANER.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
