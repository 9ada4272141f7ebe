//! One message: a request or a batch of them, as text, and the text of the answer.

use super::{Face, Params, RpcError, session::Session};
use serde_json::{Value, json};

/// The longest message, bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Requests in one message.
pub const BATCH_MAX: usize = 64;

/// Answers a message. `session` is the connection that subscriptions would speak to; without one they are refused. `None` when nothing is
/// to be answered.
pub fn handle(face: &Face, text: &[u8], session: Option<&Session>) -> Option<String> {
    let answer = match serde_json::from_slice::<Value>(text) {
        Err(e) => Some(failed(Value::Null, &RpcError::parse(&e.to_string()))),
        Ok(Value::Array(requests)) if requests.is_empty() || requests.len() > BATCH_MAX => {
            Some(failed(Value::Null, &RpcError::invalid_request(format!("a batch has from 1 to {BATCH_MAX} requests"))))
        }
        Ok(Value::Array(requests)) => {
            let answers: Vec<Value> = requests.into_iter().filter_map(|request| one(face, request, session)).collect();
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
        Ok(request) => one(face, request, session),
    };
    answer.map(|answer| answer.to_string())
}

fn failed(id: Value, error: &RpcError) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": error.json() })
}

/// A request without an id is done and not answered.
fn one(face: &Face, request: Value, session: Option<&Session>) -> Option<Value> {
    let Value::Object(mut request) = request else {
        return Some(failed(Value::Null, &RpcError::invalid_request("a request is an object")));
    };
    let id = request.remove("id");
    let answer = |result: Result<Value, RpcError>| {
        let id = id.clone()?;
        Some(match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(error) => failed(id, &error),
        })
    };
    if id.as_ref().is_some_and(|id| !(id.is_number() || id.is_string() || id.is_null())) {
        return Some(failed(Value::Null, &RpcError::invalid_request("the id must be a number or text")));
    }
    let Some(Value::String(method)) = request.remove("method") else {
        return answer(Err(RpcError::invalid_request("there is no method")));
    };
    let params = match request.remove("params") {
        None | Some(Value::Null) => Params::default(),
        Some(Value::Array(params)) => Params(params),
        Some(_) => return answer(Err(RpcError::invalid_params("parameters are a list"))),
    };
    if let Some(result) = Session::subscribe(face, session, &method, &params) {
        return answer(result);
    }
    answer(face.call(&method, &params))
}
