"""The dataset card for machines: Croissant 1.0, JSON-LD with the manifest as its one file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pipeline.artifacts.dataset import DatasetInfo
from pipeline.artifacts.folders import DatasetVersionFolder
from pipeline.artifacts.manifest import ManifestRow
from pipeline.preprocess.cards.attribution import web_address
from pipeline.types import JsonObject

CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
# The context that the specification prescribes, word for word.
CONTEXT: JsonObject = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
FIELDS = {
    "id": ("sc:Text", "SHA-256 of the decoded pixels and their shape"),
    "blob": ("sc:Text", "SHA-256 of the original bytes; the object blobs/<blob> of the bucket"),
    "label": ("sc:Text", "The picture's class"),
    "split": ("sc:Text", "train, test, or nothing for a picture that is not kept"),
    "status": ("sc:Text", "kept, quarantined or duplicate"),
    "reason": ("sc:Text", "Why it is not kept"),
    "group": ("sc:Text", "Near duplicates share a group; a group is on one side of the split"),
    "width": ("sc:Integer", "Columns, upright"),
    "height": ("sc:Integer", "Rows, upright"),
    "source_url": ("sc:URL", "Where the bytes came from"),
    "page_url": ("sc:URL", "The page that shows the picture to people"),
    "creator": ("sc:Text", "Who made it"),
    "license": ("sc:Text", "Its licence"),
    "license_url": ("sc:URL", "Where the licence is to be read"),
    "retrieved_at": ("sc:DateTime", "When the bytes were read"),
}


def build_croissant(
    info: DatasetInfo, rows: Sequence[ManifestRow], manifest: bytes, folder: DatasetVersionFolder
) -> JsonObject:
    """Return the Croissant description of a dataset version.

    Args:
        info: What the version is.
        rows: Its pictures.
        manifest: The bytes of its manifest.
        folder: The version's.
    """
    file = folder.manifest.rpartition("/")[2]
    licences = {
        web_address(row.provenance.license_url) or row.provenance.license
        for row in rows
        if row.split is not None
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": info.dataset,
        "description": f"Pictures of {', '.join(info.classes)} for training and testing an image classifier; "
        f"version {info.version}, {sum(info.pictures.values())} pictures.",
        "conformsTo": CONFORMS_TO,
        "url": folder.uri,
        "version": f"1.0.0+{info.version.replace('_', '-')}",
        "datePublished": info.created_at,
        "license": sorted(licence for licence in licences if licence) or ["not stated"],
        "citeAs": f"{info.dataset}, dataset version {info.version}",
        "isLiveDataset": False,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file,
                "name": file,
                "contentUrl": file,
                "contentSize": f"{len(manifest)} B",
                "encodingFormat": "application/jsonlines",
                "sha256": hashlib.sha256(manifest).hexdigest(),
            }
        ],
        "recordSet": [_classes(info), _pictures(file)],
    }


def _classes(info: DatasetInfo) -> JsonObject:
    name = {"@type": "cr:Field", "@id": "classes/name", "name": "classes/name", "dataType": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/name"},
        "field": [name],
        "data": [{"classes/name": label} for label in info.classes],
    }


def _pictures(file: str) -> JsonObject:
    return {
        "@type": "cr:RecordSet",
        "@id": "pictures",
        "name": "pictures",
        "key": {"@id": "pictures/blob"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"pictures/{name}",
                "name": f"pictures/{name}",
                "description": description,
                "dataType": data_type,
                "source": {"fileObject": {"@id": file}, "extract": {"column": name}},
                **({"references": {"field": {"@id": "classes/name"}}} if name == "label" else {}),
            }
            for name, (data_type, description) in FIELDS.items()
        ],
    }
