//! `tasklease submit`

use std::time::Duration;

use clap::Args;
use tasklease_client::Client;
use tasklease_proto::convert::duration_to_wire;
use tasklease_proto::limits;
use tasklease_proto::v1::{
    SubmitTaskResponse, TaskSpec,
    task_spec::{Input, Start},
};

use crate::describe::describe_submitted;
use crate::failure::Failure;
use crate::follow::{Attention, follow};
use crate::param::{Param, parse_json_param, parse_param, parse_text_param};
use crate::payload::{PayloadSource, assemble, parse_payload_source};
use crate::screen::{OutputFormat, Screen};
use tasklease_lifecycle::time_span::time_span_within;

/// `tasklease submit`
#[derive(Debug, Args)]
pub(crate) struct Submit {
    /// The task type, which selects the code that runs it
    #[arg(value_name = "TYPE")]
    task_type: String,

    /// One field of the input, JSON if the value is JSON, else text; repeatable
    ///
    /// A value counts as a number only if it would be printed as it was typed: 5 and 2.5 are numbers, while
    /// 1.10, 12e5 and 007 stay text. Where the guess is wrong, --param-text and --param-json say which it is.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_param)]
    params: Vec<Param>,

    /// One field of the input, always text; repeatable
    #[arg(long = "param-text", value_name = "NAME=TEXT", value_parser = parse_text_param)]
    text_params: Vec<Param>,

    /// One field of the input, always JSON, sent exactly as typed; repeatable
    #[arg(long = "param-json", value_name = "NAME=JSON", value_parser = parse_json_param)]
    json_params: Vec<Param>,

    /// The input, a JSON object in UTF-8: its text, @FILE, or - for standard input; --param replaces single fields of it
    #[arg(long, value_name = "JSON|@FILE|-", value_parser = parse_payload_source)]
    payload: Option<PayloadSource>,

    /// The queue to submit to
    #[arg(long, value_name = "NAME", default_value = "default")]
    queue: String,

    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true,
          help = format!("-{most} to {most}, higher runs first", most = limits::PRIORITY),
          value_parser = clap::value_parser!(i32).range(-i64::from(limits::PRIORITY)..=i64::from(limits::PRIORITY)))]
    priority: i32,

    /// Earliest start counted from now, such as 500ms, 10s or 2h 30m
    #[arg(long, value_name = "TIME", value_parser = time_span_within(Duration::ZERO..=limits::LONGEST_WAIT))]
    delay: Option<Duration>,

    #[arg(long, value_name = "N",
          help = format!("How many counted runs it may have, 1 to {} [default: the scheduler's, {}]",
                         limits::ATTEMPTS, limits::DEFAULT_ATTEMPTS),
          value_parser = clap::value_parser!(i32).range(1..=i64::from(limits::ATTEMPTS)))]
    max_attempts: Option<i32>,

    /// A title for people, one line
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    title: String,

    /// Follow the task live until it ends
    #[arg(long)]
    watch: bool,

    /// Wait until the task ends, then print the result
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
}

impl Submit {
    /// Submits the task and, if asked to, stays with it until it ends.
    pub(crate) async fn run(self, client: &Client, screen: &Screen) -> Result<(), Failure> {
        let attention = match (self.watch, self.wait) {
            (true, _) => Some(Attention::Live),
            (false, true) => Some(Attention::EndOnly),
            (false, false) => None,
        };
        let task = client.submit(self.into_spec()?).await?;
        let id = task.id.clone();
        let response = SubmitTaskResponse { task: Some(task) };
        match attention {
            None => screen.show(&response, |response| describe_submitted(response.task.as_ref())),
            Some(attention) => {
                // A program that waits for JSON gets the updates alone, which name the task.
                if screen.format() == OutputFormat::Table {
                    match screen.line(&describe_submitted(response.task.as_ref())) {
                        // The exit code is still waited for.
                        Ok(()) | Err(Failure::NobodyReads) => {}
                        Err(failure) => return Err(failure),
                    }
                }
                follow(client, &id, attention, screen).await
            }
        }
    }

    fn into_spec(self) -> Result<TaskSpec, Failure> {
        let params = [self.params, self.text_params, self.json_params].concat();
        Ok(TaskSpec {
            task_type: self.task_type,
            queue: self.queue,
            input: Some(Input::PayloadJson(assemble(self.payload, params)?)),
            priority: self.priority,
            start: self.delay.map(|delay| Start::Delay(duration_to_wire(delay))),
            max_attempts: self.max_attempts.unwrap_or_default(),
            title: self.title,
            ..TaskSpec::default()
        })
    }
}
