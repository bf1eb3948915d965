//! How every Tasklease process begins and ends: [`logging`], and a two-step [`Shutdown`].

pub mod logging;
mod shutdown;

pub use shutdown::Shutdown;
