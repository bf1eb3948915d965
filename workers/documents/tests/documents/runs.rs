//! Runs whose context the code under test gets, one whole and one that is stopped.

use tasklease_documents::dummy::DummyShort;
use tasklease_worker::testing::TestRun;

/// A run without a scheduler, for code that takes a context; its own task is not run.
pub(crate) type Run = TestRun<DummyShort>;

/// A run that nobody stops, whose sleeps take no time.
pub(crate) fn undisturbed() -> Run {
    TestRun::new(DummyShort).without_sleeping()
}

/// The percentages that a run reported.
pub(crate) fn marks(run: &Run) -> Vec<f64> {
    run.progress()
        .iter()
        .filter_map(|progress| progress.percent)
        .collect()
}
