"""What an annotation will take, before it is paid for."""

from __future__ import annotations

from dataclasses import dataclass

from fineedu.annotate.cache import AnswerCache
from fineedu.annotate.documents import read_documents
from fineedu.annotate.prompt import document_hash, make_prompt
from fineedu.annotate.run import AnnotateJob

#: Characters a token where no answer tells: English prose has 4 to 4.5, other scripts have fewer.
_CHARACTERS_A_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Figures of an annotation that has not run."""

    documents: int
    votes: int
    #: of them answered already
    cached: int
    prompt_tokens: float
    completion_tokens: float
    #: dollars; None without a price
    cost: float | None
    #: None without a speed in the price file
    hours: float | None
    #: whether tokens were counted on this annotator's cached answers, or guessed
    measured: bool


def estimate(job: AnnotateJob) -> Estimate:
    """Estimate tokens, cost and hours of an annotation.

    Token counts go by the ratio to characters in the cached answers of this annotator under this rubric where there are
    any, else by 4 characters a token, and half of ``max_tokens`` for an answer.

    Raises:
        FineeduError: a document file is damaged, or the cache cannot be read.
    """
    rubric, name = job.annotator.rubric, job.annotator.name
    documents = votes = cached = 0
    open_characters = known_characters = known_prompt = known_completion = 0
    with AnswerCache(job.cache, "estimate") as cache:
        for _, batch in read_documents(job.files, limit=job.limit):
            documents += batch.height
            texts = [text for text in batch["text"] if text and not text.isspace()]
            keys = [(document_hash(text), sample) for text in texts for sample in range(job.annotator.samples)]
            found = cache.get(rubric.hash, name, keys)
            votes += len(keys)
            cached += sum(key in found for key in keys)
            for text in texts:
                digest = document_hash(text)
                length = sum(len(message["content"]) for message in make_prompt(rubric, text).messages)
                for sample in range(job.annotator.samples):
                    answer = found.get((digest, sample))
                    if answer is None:
                        open_characters += length
                    elif answer.prompt_tokens:
                        known_characters += length
                        known_prompt += answer.prompt_tokens
                        known_completion += answer.completion_tokens
    measured = known_prompt > 0
    ratio = known_prompt / known_characters if measured else 1 / _CHARACTERS_A_TOKEN
    answer_tokens = known_completion / cached if measured else rubric.sampling.max_tokens / 2
    prompt, completion = open_characters * ratio, (votes - cached) * answer_tokens
    price = job.price
    speed = price.tokens_per_second if price is not None else None
    return Estimate(
        documents,
        votes,
        cached,
        prompt,
        completion,
        price.cost(prompt, completion) if price is not None else None,
        (prompt + completion) / speed / 3600 if speed else None,
        measured,
    )
