//! `dummy_short`, `dummy_long` and `dummy_very_long`: sleep in steps, report each.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tasklease_worker::{Context, Task, TaskError, TaskResult};

use crate::failure::{Failure, Kind};

/// Longest sleep, one day in seconds.
const MAX_SECONDS: f64 = 86_400.0;
/// Most steps of one task.
const MAX_STEPS: u32 = 10_000;

/// What the caller chose; a field left out takes the type's default.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Params {
    /// Seconds in all, 0 to 86,400.
    pub duration: Option<f64>,
    /// Equal steps, 1 to 10,000.
    pub steps: Option<u32>,
}

/// What a dummy task returns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Output {
    /// A sentence for people.
    pub message: String,
    pub steps_completed: u32,
    /// Seconds slept, as asked for.
    pub duration: f64,
}

/// A checked amount of sleep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SleepPlan {
    seconds: f64,
    steps: u32,
}

impl SleepPlan {
    /// The length of a type when the caller says nothing.
    const fn new(seconds: f64, steps: u32) -> SleepPlan {
        SleepPlan { seconds, steps }
    }

    /// Replaces these defaults by the caller's choices.
    ///
    /// # Errors
    /// A value outside its range.
    pub fn overlaid(self, params: Params) -> Result<SleepPlan, Failure> {
        let seconds = params.duration.unwrap_or(self.seconds);
        let steps = params.steps.unwrap_or(self.steps);
        if !(0.0..=MAX_SECONDS).contains(&seconds) {
            return Err(Failure::new(
                Kind::InvalidParameter,
                format!("field `duration`: {seconds} is not between 0 and {MAX_SECONDS} seconds"),
            ));
        }
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(Failure::new(
                Kind::InvalidParameter,
                format!("field `steps`: {steps} is not between 1 and {MAX_STEPS}"),
            ));
        }
        Ok(SleepPlan { seconds, steps })
    }
}

/// Sleeps in steps and reports each.
///
/// # Errors
/// The run was told to stop.
pub async fn sleep_in_steps(plan: SleepPlan, ctx: &Context) -> TaskResult<Output> {
    let one_step = Duration::from_secs_f64(plan.seconds / f64::from(plan.steps));
    for step in 1..=plan.steps {
        ctx.check_cancelled()?;
        ctx.sleep(one_step).await?;
        let percent = f64::from(step) * 100.0 / f64::from(plan.steps);
        ctx.update_progress(percent, format!("Step {step} of {}", plan.steps));
    }
    // A cancel that arrives during the last step still counts.
    ctx.check_cancelled()?;
    Ok(Output {
        message: format!("Completed {} steps in {} seconds", plan.steps, plan.seconds),
        steps_completed: plan.steps,
        duration: plan.seconds,
    })
}

/// Sleeps 5 seconds in 5 steps.
pub struct DummyShort;

/// Sleeps 30 seconds in 10 steps.
pub struct DummyLong;

/// Sleeps 120 seconds in 20 steps.
pub struct DummyVeryLong;

impl DummyShort {
    /// What is done when the caller says nothing.
    pub const DEFAULT: SleepPlan = SleepPlan::new(5.0, 5);
}

impl DummyLong {
    /// What is done when the caller says nothing.
    pub const DEFAULT: SleepPlan = SleepPlan::new(30.0, 10);
}

impl DummyVeryLong {
    /// What is done when the caller says nothing.
    pub const DEFAULT: SleepPlan = SleepPlan::new(120.0, 20);
}

impl Task for DummyShort {
    const TYPE: &'static str = "dummy_short";
    type Params = Params;
    type Output = Output;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Output> {
        sleep_in_steps(Self::DEFAULT.overlaid(params)?, ctx).await
    }
}

impl Task for DummyLong {
    const TYPE: &'static str = "dummy_long";
    type Params = Params;
    type Output = Output;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Output> {
        sleep_in_steps(Self::DEFAULT.overlaid(params)?, ctx).await
    }
}

impl Task for DummyVeryLong {
    const TYPE: &'static str = "dummy_very_long";
    type Params = Params;
    type Output = Output;
    type Error = TaskError;

    async fn run(&self, params: Params, ctx: &Context) -> TaskResult<Output> {
        sleep_in_steps(Self::DEFAULT.overlaid(params)?, ctx).await
    }
}
