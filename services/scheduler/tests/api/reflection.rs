//! Reflection, in the version of today and the one that older clients speak.

use tonic_reflection::pb::{v1, v1alpha};

use crate::scheduler::{Scheduler, soon};

const SERVICES: [&str; 4] = [
    "grpc.health.v1.Health",
    "tasklease.v1.QueueService",
    "tasklease.v1.TaskService",
    "tasklease.v1.WorkerService",
];

#[tokio::test]
async fn both_versions_list_every_service_and_describe_the_contract() {
    let scheduler = Scheduler::start().await;
    macro_rules! lists_and_describes {
        ($version:ident) => {{
            use $version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let ask = async |request| {
                let request = ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(request),
                };
                let mut answers = ServerReflectionClient::new(scheduler.channel.clone())
                    .server_reflection_info(tokio_stream::once(request))
                    .await
                    .unwrap()
                    .into_inner();
                soon("an answer", answers.message())
                    .await
                    .unwrap()
                    .unwrap()
                    .message_response
                    .unwrap()
            };
            let MessageResponse::ListServicesResponse(list) =
                ask(MessageRequest::ListServices(String::new())).await
            else {
                panic!("expected a list");
            };
            let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
            for service in SERVICES {
                assert!(names.contains(&service), "{service} in {names:?}");
            }
            for symbol in ["tasklease.v1.TaskService", "tasklease.v1.Task", "google.rpc.ErrorInfo"] {
                let answer = ask(MessageRequest::FileContainingSymbol(symbol.into())).await;
                assert!(
                    matches!(&answer, MessageResponse::FileDescriptorResponse(found)
                        if !found.file_descriptor_proto.is_empty()),
                    "{symbol}: {answer:?}"
                );
            }
        }};
    }
    lists_and_describes!(v1);
    lists_and_describes!(v1alpha);
    scheduler.end().await;
}

#[tokio::test]
async fn reflection_can_be_turned_off() {
    let scheduler = Scheduler::start_with(&["--reflection", "false"]).await;
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: None,
    };
    let status = v1::server_reflection_client::ServerReflectionClient::new(scheduler.channel.clone())
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    scheduler.end().await;
}
