//! A plan as one JSON document, with everything that other formats can't say.

use serde_json::{Value, json};

use super::entry::{Attachment, Child, Entry};
use super::{Origin, Plan};
use crate::oci::Descriptor;

/// The type of the document.
pub const MEDIA_TYPE: &str = "application/vnd.barge.plan.v1+json";

/// Returns the document. What is unknown or empty in an image is left out of it.
#[must_use]
pub fn document(plan: &Plan) -> Value {
    let images: Vec<Value> = plan.entries.iter().map(image).collect();
    let failed: Vec<Value> =
        plan.failed.iter().map(|(image, why)| json!({ "image": image, "why": why })).collect();
    let notes = plan.notes.clone().finish();
    json!({
        "mediaType": MEDIA_TYPE,
        "destination": plan.destination.to_string(),
        "images": images,
        "failed": failed,
        "notes": notes,
    })
}

fn image(entry: &Entry) -> Value {
    let mut value = json!({
        "name": entry.name,
        "part": entry.part,
        "source": origin(&entry.origin),
        "root": descriptor(&entry.root),
        "target": entry.target,
        "tag": entry.tag,
    });
    let mut add = |key: &str, field: Option<Value>| {
        if let (Some(field), Some(fields)) = (field, value.as_object_mut()) {
            fields.insert(key.to_owned(), field);
        }
    };
    add("reference", entry.reference.as_ref().map(|reference| json!(reference)));
    add("tagIsMade", entry.tag_is_made.then_some(json!(true)));
    add("platforms", (!entry.platforms.is_empty()).then(|| json!(entry.platforms)));
    add("leftOut", (!entry.left_out.is_empty()).then(|| json!(entry.left_out)));
    add("single", entry.single.as_ref().map(|single| json!(single)));
    add("lacking", (entry.lacking > 0).then(|| json!(entry.lacking)));
    let manifests: Vec<Value> = entry.children.iter().map(child).collect();
    add("manifests", (!manifests.is_empty()).then(|| json!(manifests)));
    let attached: Vec<Value> = entry.attached.iter().map(attachment).collect();
    add("attached", (!attached.is_empty()).then(|| json!(attached)));
    value
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::Registry(name) => json!({ "kind": "registry", "repository": name }),
        Origin::Layout(layout) => {
            json!({ "kind": if layout.is_archive { "oci-archive" } else { "oci" }, "path": layout.path.to_string_lossy() })
        }
        Origin::DockerArchive(path) => json!({ "kind": "docker-archive", "path": path.to_string_lossy() }),
        Origin::Made => json!({ "kind": "made" }),
    }
}

fn descriptor(descriptor: &Descriptor) -> Value {
    json!({ "mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size })
}

fn child(child: &Child) -> Value {
    let mut value = descriptor(&child.descriptor);
    value["travels"] = json!(child.kept);
    if let Some(platform) = &child.platform {
        value["platform"] = json!(platform);
    }
    value
}

fn attachment(attached: &Attachment) -> Value {
    let mut value = descriptor(&attached.descriptor);
    value["subject"] = json!(attached.subject);
    value["source"] = origin(&attached.origin);
    if let Some(tag) = &attached.tag {
        value["tag"] = json!(tag);
    }
    value
}
