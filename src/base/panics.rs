//! What a panic may cost: the one piece of work that it happened in, where the caller has said so with `contain` or
//! `contained`; everywhere else the process. A listener, a lane or a runtime thread that ended by itself would leave a box
//! that runs and does nothing, and nobody would start it again.
//!
//! `watch` installs the hook (called by `app`, once). A log line carries the place in the source and the thread, never the
//! panic's text: that may hold data-set values.
use super::fault::{Plant, planted};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

thread_local! {
    /// How many containments this thread is in: a panic hook is told the place of a panic, but not who waits for it.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The work panicked. What it was doing is gone; what it shared with others is guarded by their own `Drop`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Panicked;

/// Does work whose panic costs no more than this work. What it leaves half done must be its own.
///
/// # Errors
/// It panicked; the hook has logged where.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    DEPTH.set(depth);
    done.map_err(|_| Panicked)
}

/// `contain` for a future. As cancel-safe as the future itself.
///
/// # Errors
/// It panicked; the hook has logged where.
pub async fn contained<F: Future>(work: F) -> Result<F::Output, Panicked> {
    let mut work = pin!(work);
    std::future::poll_fn(move |cx| match contain(|| work.as_mut().poll(cx)) {
        Ok(poll) => poll.map(Ok),
        // It is never polled again.
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// From now on a panic outside of `contain` ends the process (by SIGABRT), and one inside calls `count`.
pub fn watch(count: impl Fn() + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location();
        let contained = DEPTH.try_with(Cell::get).unwrap_or(0) > 0;
        if (contained && !place.is_some_and(in_the_runtime)) || planted(Plant::SwallowPanics) {
            count();
            tracing::error!(place = %words(place), "a panic: the work that it happened in is given up");
        } else {
            end(place);
        }
    }));
}

/// Whether the panic is one of the runtime or its reactor: whoever called them, all tasks depend on them.
fn in_the_runtime(place: &Location<'_>) -> bool {
    ["/tokio-1", "/mio-1"].iter().any(|part| place.file().contains(part))
}

fn words(place: Option<&Location<'_>>) -> String {
    place.map_or_else(
        || "unknown".to_owned(),
        |place| format!("{}:{}", place.file(), place.line()),
    )
}

fn end(place: Option<&Location<'_>>) -> ! {
    // The log may be what has failed: the process ends all the same. Without this thread too, as soon as the line is out.
    let bound = std::thread::Builder::new().spawn(|| {
        std::thread::sleep(LOG_BOUND);
        std::process::abort();
    });
    drop(bound);
    // A core dump would hold patient data.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _limited = setrlimit(Resource::Core, none);
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("unnamed");
    tracing::error!(place = %words(place), thread = name, "a panic: the box ends; the service manager starts it again");
    // As after a `kill -9`: nothing that is half done is completed, and what was acknowledged is on the disk.
    std::process::abort();
}

/// For the last line of the log.
const LOG_BOUND: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn contained_work_costs_itself_only_and_leaves_no_mark_on_its_thread() {
        assert_eq!(contain(|| 1), Ok(1));
        let depth = || DEPTH.get();
        let nested = contain(|| (depth(), contain(|| panic!("on purpose")), depth()));
        assert_eq!(nested, Ok((1, Err::<(), _>(Panicked), 1)));
        let late = contained(async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        });
        assert_eq!(late.await, Err::<(), _>(Panicked));
        assert_eq!(depth(), 0);
    }
}
