//! What MongoDB itself says of a definition, asked when it is written and not when a client first connects.

use bson::Document;
use mongodb::Client;
use shared::{
    definition::{Definition, Definitions},
    name::Namespace,
    refusal::{Kind, Refusal},
};

use crate::{
    cursor::pipeline,
    mongo::{self, Fault},
};

/// Opens each definition once. Refused with MongoDB's message; where a variable shapes the syntax only the resolved
/// pipeline can be judged, and is when a client connects.
pub async fn accepted_by_mongo(
    client: &Client,
    namespace: &Namespace,
    definitions: &Definitions,
) -> Result<(), Refusal> {
    for (index, (_, definition)) in definitions.iter().enumerate() {
        if let Ok(definition) = definition
            && let Some(message) = refused(client, namespace, definition).await?
        {
            let message = format!("streams[{index}].stages: MongoDB refuses the pipeline: {message}");
            return Err(Refusal::new(Kind::RefusedByMongo, message));
        }
    }
    Ok(())
}

/// MongoDB's message, if it is one and the same whatever value the variables have: then they are not its cause.
async fn refused(
    client: &Client,
    namespace: &Namespace,
    definition: &Definition,
) -> Result<Option<String>, Refusal> {
    let mut messages: Vec<String> = Vec::new();
    for stages in definition.probes() {
        let opened = client
            .database(namespace.database.as_str())
            .collection::<Document>(namespace.collection.as_str())
            .aggregate(pipeline(definition.options(), None, None, &stages))
            .batch()
            .await;
        match opened {
            Ok(_) => return Ok(None),
            Err(error) if mongo::fault(&error) == Fault::Unreachable => return Err(mongo::refusal(&error)),
            Err(error) => messages.push(mongo::message(&error)),
        }
    }
    messages.dedup();
    Ok(if messages.len() == 1 { messages.pop() } else { None })
}
