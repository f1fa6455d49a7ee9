//! The commands by which other tools take what is in a bundle.

use std::collections::BTreeSet;

use barge::bundle::inspect::Summary;
use barge::oci::Platform;

use crate::cli::printer::quoted;

/// Returns the commands by which other tools take the images.
pub(super) fn commands(summary: &Summary, path: &str) -> Vec<String> {
    let file = quoted(path);
    let Some(first) = summary.images.iter().find_map(|image| Some((image.name.as_deref()?, image))) else {
        return Vec::new();
    };
    let (name, image) = first;
    let mut commands = Vec::new();
    let platforms: BTreeSet<&Platform> = summary.images.iter().flat_map(|image| &image.platforms).collect();
    // Content of other platforms is not there: an import of all of them, or of this machine's, could fail.
    let is_sparse =
        summary.absent.contains_key(&barge::select::Reason::Platform) || summary.unshipped.count > 0;
    if !summary.is_folder {
        match is_sparse {
            true => commands.extend(
                platforms
                    .iter()
                    .map(|platform| format!("ctr images import --platform {} {file}", flag(platform))),
            ),
            false => commands.push(format!("ctr images import {file}")),
        }
    }
    let scheme = if summary.is_folder { "oci" } else { "oci-archive" };
    let source = quoted(&format!("{scheme}:{path}:{name}"));
    let target = quoted(&format!("docker://{name}"));
    commands.push(match (is_sparse, image.platforms.first()) {
        (true, Some(platform)) => {
            let variant = platform
                .variant
                .as_ref()
                .map_or(String::new(), |variant| format!(" --override-variant {}", quoted(variant)));
            format!(
                "skopeo --override-os {} --override-arch {}{variant} copy {source} {target}",
                quoted(&platform.os),
                quoted(&platform.architecture)
            )
        }
        (true, None) => format!("skopeo copy {source} {target}"),
        (false, _) => format!("skopeo copy --all {source} {target}"),
    });
    if summary.has_docker_manifest {
        commands.push(format!("docker load -i {file}"));
    }
    commands
}

/// Returns a platform as a flag's value: what other tools don't know of it is left out.
fn flag(platform: &Platform) -> String {
    let plain = Platform { os_version: None, ..platform.clone() };
    quoted(&plain.to_string())
}
