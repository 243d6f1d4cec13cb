"""What is read of a dictionary of the dict server."""

from __future__ import annotations

import gzip

import pytest

from wardgate.train.dictionary import parse, read_dictionary

DEFINITIONS = """\
 some introduction that belongs to no word
bread /bɹˈɛd/
Brot <neut> [cook.]
      "fresh bread (from today)"  - frisches Brot
 see: {loaf}

   Synonym: {loaf}

bread /bɹˈɛd/ <v>
jdn./etw. panieren <v, trans>

spring /spɹˈɪŋ/
Feder <fem> [techn.], Quelle <fem>
         Note: of a clock, of a river
spring /spɹˈɪŋ/
 [poet.] Frühling <masc>, Lenz <masc>, erste Jahreszeit <fem>
      "in spring"  - im Frühling
      "the spring of the clock"  - die Feder der Uhr
      "Every spring brings rain."  - Jeder Frühling bringt Regen.
      "I like spring"  - Ich mag den Frühling
ask sb. /ˈæsk ˌɛsbˈiː/
jdn. fragen <v, trans>
kick the bucket /kˈɪk/
sterben
""".splitlines()


def test_a_word_has_its_translations_without_remarks_the_one_its_examples_use_first():
    words = parse(DEFINITIONS).words
    assert words["bread"] == ("Brot", "panieren")
    assert words["spring"] == ("Frühling", "Feder", "Lenz")
    assert words["ask"] == ("fragen",)


def test_only_single_words_stand_for_words():
    words = parse(DEFINITIONS).words
    assert set(words) == {"bread", "spring", "ask"}
    assert not any(" " in german for several in words.values() for german in several)


def test_examples_are_sentences_in_both_languages():
    sentences = parse(DEFINITIONS).sentences
    assert ("fresh bread", "frisches Brot") in sentences
    assert ("Every spring brings rain.", "Jeder Frühling bringt Regen.") in sentences
    assert len(sentences) == 5


def test_a_packed_file_is_read_and_a_missing_one_told(tmp_path):
    path = tmp_path / "a.dict.dz"
    path.write_bytes(gzip.compress("\n".join(DEFINITIONS).encode()))
    assert read_dictionary(path) == parse(DEFINITIONS)
    with pytest.raises(FileNotFoundError, match="apt-get install dict-freedict-eng-deu"):
        read_dictionary(tmp_path / "none")
