"""The sources of pictures, one section a type."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from pipeline.config.labels import check_pattern, read_label
from pipeline.config.strict import Strict
from pipeline.types import JsonValue

Label: TypeAlias = Annotated[str, BeforeValidator(read_label), Field(min_length=1, max_length=200)]
Words: TypeAlias = str | list[str]
License: TypeAlias = Literal["cc0", "pdm", "by", "by-sa", "by-nc", "by-nd", "by-nc-sa", "by-nc-nd"]
OPEN_LICENSES: tuple[License, ...] = ("cc0", "pdm", "by", "by-sa")
MAX_RESULTS = 10_000


class SourceSection(Strict):
    """What all sources share."""

    is_network: ClassVar[bool] = False
    needs: ClassVar[tuple[str, ...]] = ()

    label: Label | None = Field(None, description="The class of every picture of this source.")

    @model_validator(mode="before")
    @classmethod
    def _has_what_it_needs(cls, value: JsonValue) -> JsonValue:
        if isinstance(value, Mapping):
            for key in cls.needs:
                if not value.get(key):
                    raise ValueError(f"a `{value.get('type')}` source needs `{key}`")
        return value

    @property
    def declared_classes(self) -> list[str] | None:
        """The labels it can give, in the order its section says; None where only its content tells."""
        return None if self.label is None else [self.label]


class ClassedSection(SourceSection):
    """A source whose content tells the classes."""

    classes: list[Label] | None = Field(
        None,
        description="The label of class 0, of class 1, ... `npz` needs it; others take the names found.",
    )

    @field_validator("classes")
    @classmethod
    def _no_label_twice(cls, value: list[str] | None) -> list[str] | None:
        if value is not None and len(set(value)) != len(value):
            raise ValueError(f"`classes` has a label twice: {value}")
        return value

    @property
    def declared_classes(self) -> list[str] | None:
        """The label, else the classes."""
        return self.classes if self.label is None else [self.label]


class SampleSection(ClassedSection):
    """The pictures that come with Graft."""

    type: Literal["sample"] = Field(description="Tiles of the photographs that scikit-image ships.")

    @model_validator(mode="before")
    @classmethod
    def _takes_no_uri(cls, value: JsonValue) -> JsonValue:
        if isinstance(value, Mapping) and value.get("uri") is not None:
            raise ValueError(
                "a `sample` source takes no `uri`; use `type: folder` or `type: npz` for your own pictures"
            )
        if isinstance(value, Mapping):
            return {key: item for key, item in value.items() if key != "uri"}
        return value


class UploadsSection(ClassedSection):
    """The pictures that people uploaded for this classifier."""

    type: Literal["uploads"] = Field(description="What people added on the classifier's page *Add pictures*.")


class FeedbackSection(ClassedSection):
    """The pictures whose answers were wrong, once a person confirmed their labels; they only train."""

    type: Literal["feedback"] = Field(
        description="What people said of wrong answers and somebody confirmed on the page *Feedback*."
    )


class ListColumns(Strict):
    """Which column of a list is which."""

    file: str | None = Field(None, min_length=1, description="The column of addresses or paths.")
    label: str | None = Field(None, min_length=1, description="The column of labels.")
    split: str | None = Field(None, min_length=1, description="The column of the parts of a split.")


LabelPattern: TypeAlias = Annotated[str, AfterValidator(check_pattern)]
LabelFrom: TypeAlias = Literal["largest", "most", "only"]
_LABEL_FROM = (
    "The category that labels a picture with boxes of several, in COCO and Pascal VOC: largest (default) "
    "covers most, most has most boxes, only leaves such pictures unlabelled."
)


class FolderSection(ClassedSection):
    """A sub-folder per class."""

    needs = ("uri",)
    type: Literal["folder"] = Field(description="A sub-folder per class, or a list; with `label`, any files.")
    uri: str = Field(description="A path, `file://` or `gs://bucket/prefix`.")
    label_pattern: LabelPattern | None = Field(
        None, description="A regular expression; its first group, found in a file's name, is the class."
    )
    columns: ListColumns | None = Field(None, description="The columns of its list, if not named as usual.")
    label_from: LabelFrom | None = Field(None, description=_LABEL_FROM)


class NpzSection(ClassedSection):
    """Arrays `features` and `labels`."""

    needs = ("uri",)
    type: Literal["npz"] = Field(description="Arrays `features` and `labels`.")
    uri: str = Field(description="A path, `file://`, `gs://bucket/prefix` or `http(s)://` address.")

    @model_validator(mode="after")
    def _names_its_classes(self) -> NpzSection:
        if not self.classes and self.label is None:
            raise ValueError("an `npz` source needs `classes`: the label of class 0, of class 1, ...")
        return self


class ArchiveSection(ClassedSection):
    """A zip or tar of class folders, or with a CSV of labels."""

    needs = ("uri",)
    type: Literal["archive"] = Field(description="A zip, tar or tar.gz with class folders or a `labels.csv`.")
    uri: str = Field(description="A path, `file://`, `gs://bucket/prefix` or `http(s)://` address.")
    columns: ListColumns | None = Field(None, description="The columns of its list, if not named as usual.")
    label_from: LabelFrom | None = Field(None, description=_LABEL_FROM)
    label_pattern: LabelPattern | None = Field(
        None, description="A regular expression; its first group, found in a file's name, is the class."
    )
    encoding: str | None = Field(
        None, description="Of member names that do not tell theirs, such as gbk or cp932; guessed by default."
    )

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        try:
            return value and codecs.lookup(value).name
        except LookupError:
            raise ValueError(
                f"{value!r} is no encoding; examples are utf-8, gbk, big5, cp932, cp949, cp866 and cp850"
            ) from None


class LimitedSection(SourceSection):
    """A source on the network: pictures are downloaded one by one."""

    is_network = True
    limit_per_class: int | None = Field(
        None, ge=1, le=MAX_RESULTS, description="Stop when a class has so many pictures of this source."
    )


class UrlListSection(LimitedSection):
    """A list of addresses."""

    needs = ("uri",)
    type: Literal["url_list"] = Field(description="A CSV `url,label`, or a text of addresses with `label`.")
    uri: str = Field(description="Where the list is: a path, `file://`, `gs://` or `http(s)://` address.")
    columns: ListColumns | None = Field(None, description="The columns of the list, if not named as usual.")
    label_from: LabelFrom | None = Field(None, description=_LABEL_FROM)


class WebPageSection(LimitedSection):
    """The pictures of HTML pages."""

    needs = ("uri", "label")
    type: Literal["web_page"] = Field(description="The pictures of a page and of pages linked from it.")
    uri: Annotated[str, Field(pattern=r"^https?://")] = Field(description="The page's `http(s)://` address.")
    depth: int = Field(0, ge=0, le=5, description="Links followed from page to page, on the same site.")
    max_pages: int = Field(100, ge=1, le=10_000, description="Pages read at most.")
    include: str | None = Field(None, description="CSS selector: only pictures inside what it matches.")
    exclude: str | None = Field(None, description="CSS selector: no picture inside what it matches.")
    min_side: int = Field(64, ge=1, description="Pixels that the shorter side must have.")


class SearchSection(LimitedSection):
    """An image search: words for each class."""

    query: Words | None = Field(None, description="Search words for `label`; a list searches for each.")
    queries: dict[Label, Words] | None = Field(None, description="Search words by label.")
    limit_per_class: int = Field(
        100, ge=1, le=MAX_RESULTS, description="Stop when a class has so many pictures of this source."
    )

    @model_validator(mode="after")
    def _knows_what_to_search(self) -> SearchSection:
        if (self.query is None) == (self.label is not None) and not self._has_other_words():
            raise ValueError("`label` and `query` go together; for several classes use `queries`")
        if not self.searches:
            raise ValueError("nothing to search for; give `queries: {label: words}`, or `label` and `query`")
        return self

    def _has_other_words(self) -> bool:
        return False

    @property
    def searches(self) -> dict[str, list[str]]:
        """Words by label."""
        by_label = {label: _as_list(words) for label, words in (self.queries or {}).items()}
        if self.label is not None and self.query is not None:
            by_label[self.label] = [*by_label.get(self.label, []), *_as_list(self.query)]
        return by_label

    @property
    def declared_classes(self) -> list[str]:
        """The labels that are searched for."""
        return list(self.searches)


class OpenverseSection(SearchSection):
    """Openly licensed pictures."""

    type: Literal["openverse"] = Field(description="Search of Openverse; no key is needed.")
    licenses: list[License] = Field(list(OPEN_LICENSES), min_length=1, description="Licences that are taken.")
    endpoint: str = Field("https://api.openverse.org", description="Where the API answers.")


class WikimediaSection(SearchSection):
    """Files of Wikimedia Commons."""

    type: Literal["wikimedia_commons"] = Field(description="Search of Wikimedia Commons; no key is needed.")
    category: Words | None = Field(None, description="A category, instead of `query`, for `label`.")
    categories: dict[Label, Words] | None = Field(None, description="Categories by label.")
    licenses: list[License] = Field(list(OPEN_LICENSES), min_length=1, description="Licences that are taken.")
    width: int = Field(640, ge=64, le=3840, description="Pixels across of the copy that is downloaded.")
    endpoint: str = Field("https://commons.wikimedia.org", description="Where the API answers.")

    def _has_other_words(self) -> bool:
        return self.label is not None and self.category is not None

    @property
    def searches(self) -> dict[str, list[str]]:
        """Words by label; a category is written `Category:NAME`."""
        by_label = super().searches
        named = {label: _as_list(names) for label, names in (self.categories or {}).items()}
        if self.label is not None and self.category is not None:
            named[self.label] = [*named.get(self.label, []), *_as_list(self.category)]
        for label, names in named.items():
            pages = [f"Category:{name.removeprefix('Category:')}" for name in names]
            by_label[label] = [*by_label.get(label, []), *pages]
        return by_label


class GoogleSection(SearchSection):
    """Google's Custom Search."""

    needs = ("engine",)
    type: Literal["google_custom_search"] = Field(description="Custom Search; ends on 1 January 2027.")
    engine: str = Field(description="The search engine's id (`cx`).")
    connection: str = Field("google_custom_search_default", description="Airflow connection with the key.")
    rights: str | None = Field(None, description="Google's `rights` filter, e.g. `cc_publicdomain`.")
    endpoint: str = Field("https://customsearch.googleapis.com", description="Where the API answers.")


class FlickrSection(SearchSection):
    """Flickr's photos."""

    type: Literal["flickr"] = Field(description="Search of Flickr.")
    licenses: list[License] = Field(list(OPEN_LICENSES), min_length=1, description="Licences that are taken.")
    connection: str = Field("flickr_default", description="Airflow connection with the key.")
    endpoint: str = Field("https://api.flickr.com", description="Where the API answers.")


def _as_list(words: Words) -> list[str]:
    return [words] if isinstance(words, str) else list(words)


SourceConfig: TypeAlias = Annotated[
    FolderSection
    | NpzSection
    | SampleSection
    | UploadsSection
    | FeedbackSection
    | UrlListSection
    | ArchiveSection
    | WebPageSection
    | OpenverseSection
    | WikimediaSection
    | GoogleSection
    | FlickrSection,
    Field(discriminator="type"),
]
SOURCE_SECTIONS: dict[str, type[SourceSection]] = {
    section.model_fields["type"].annotation.__args__[0]: section  # type: ignore[union-attr]
    for section in (
        FolderSection,
        NpzSection,
        SampleSection,
        UploadsSection,
        FeedbackSection,
        UrlListSection,
        ArchiveSection,
        WebPageSection,
        OpenverseSection,
        WikimediaSection,
        GoogleSection,
        FlickrSection,
    )
}
