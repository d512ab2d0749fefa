"""Names of the parts of a split, as folders and lists have them: `train`, `seg_test`, `Training Set`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
# Words of other languages, without accents: Spanish, Portuguese, French, Italian, German, Dutch, Polish,
# Turkish, Russian, Chinese, Japanese and Korean.
_FOREIGN = {
    TRAIN: "entrenamiento entreno treino treinamento entrainement apprentissage addestramento allenamento "
    "trainingsdaten trainingsmenge trainingsbilder trainieren trening treningowy treningowe egitim обучение "
    "обучающая тренировка тренировочная 训练 训练集 訓練 訓練集 学習 훈련 학습",
    VALIDATION: "validacion validacao validazione validierung validierungsdaten validierungsmenge validatie "
    "walidacja walidacyjny dogrulama валидация проверка 验证 验证集 驗證 検証 검증",
    TEST: "prueba pruebas teste testes prova essai essais testdaten testmenge testbilder testowy testowe "
    "тест тестовая 测试 测试集 測試 テスト 평가 테스트",
}
# Words that only folders' names have. An evaluation part judges, but may stand beside a test part.
_WORDS = {
    **SPLIT_NAMES,
    **dict.fromkeys(("eval", "evaluation"), VALIDATION),
    **{word: split for split, words in _FOREIGN.items() for word in words.split()},
    "trainval": TRAIN,
    "holdout": TEST,
}
# Words that name no split of their own: `train_images` and `test` belong together.
FILLERS = frozenset(
    ("data", "dataset", "folder", "image", "images", "img", "imgs", "photos", "pictures", "set", "split")
)


def find_split(name: str) -> str | None:
    """Return the part of a split that a folder's name tells by one of its words; None without one."""
    splits = {split for word in words_of(name) if (split := _split_of(word))}
    if splits == {TRAIN, VALIDATION}:  # `train_val`: the test part is elsewhere
        return TRAIN
    return splits.pop() if len(splits) == 1 else None


def find_parts(names: Iterable[str]) -> dict[str, str]:
    """Return the names that are parts of one split: alike but for the part, and of two parts or more."""
    groups: dict[str, dict[str, str]] = {}
    for name in sorted(names):
        split = find_split(name)
        if split is not None:
            rest = " ".join(word for word in words_of(name) if not _split_of(word) and word not in FILLERS)
            groups.setdefault(rest, {})[name] = split
    return {
        name: split
        for group in groups.values()
        if len(set(group.values())) > 1
        for name, split in group.items()
    }


def describe_split(counts: Mapping[str, int], tests: int) -> list[str]:
    """Return a statement of the parts of a split that a source brings.

    Args:
        counts: Pictures of each part, by its name.
        tests: Pictures of the test part.
    """
    parts = ", ".join(f"{part} ({count})" for part, count in sorted(counts.items()))
    if not tests:
        return [f"given_split: {parts}: of a split without labelled test pictures; all are split anew"]
    return [f"given_split: {parts} are parts of a split, not classes; {tests} pictures are the test set"]


def find_folder_parts(
    folders: Iterable[str], *, below: int = 0, may_stand_alone: bool = False
) -> dict[str, str]:
    """Return the part of a split that folders are in, by the innermost name on their path that tells one.

    A name tells a part where another part lies beside it, and then at the same depth elsewhere too.

    Args:
        folders: Paths of folders that hold labelled files; empty for the source's own.
        below: So many folders at the start of each path are no parts, but classes.
        may_stand_alone: True if `test` and the like are parts beside other files and folders, too.
    """
    paths = {tuple(folder.split("/")) if folder else () for folder in folders}
    inside: dict[tuple[str, ...], set[str]] = {}
    for path in paths:
        for depth in range(below, len(path)):
            inside.setdefault(path[:depth], set()).add(path[depth])
    parts: dict[tuple[int, str], str] = {}
    for parent, names in inside.items():
        beside = find_parts(names)
        if may_stand_alone and (len(names) > 1 or parent in paths):
            beside |= {name: SPLIT_NAMES[name.casefold()] for name in names if name.casefold() in SPLIT_NAMES}
        parts |= {(len(parent), name): split for name, split in beside.items()}
    result = {}
    for path in paths:
        splits = [parts[place] for place in enumerate(path) if place in parts]
        if splits:
            result["/".join(path)] = splits[-1]
    return result


def words_of(name: str) -> list[str]:
    """Return the words of a name: those of `TestImages_2` are `test` and `images`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    return [word.casefold() for word in re.findall(r"[^\W\d_]+", spaced)]


def _split_of(word: str) -> str | None:
    letters = unicodedata.normalize("NFD", word)
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    stem = bare.removesuffix("set")
    forms = (word, bare, stem, stem.removesuffix("s") if stem != bare else "")  # `Trainingsset`
    return next((_WORDS[form] for form in forms if form in _WORDS), None)
