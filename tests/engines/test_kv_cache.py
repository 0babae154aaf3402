"""What prompts of a conversation share, so that it is computed once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sekd.engines import Prompt
from sekd.engines.kv_cache import ConversationPrompt, shared_prefixes

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple)


def prompts(*rows: tuple[int, ...], conversation: int = 0) -> list[ConversationPrompt]:
    return [ConversationPrompt(conversation, Prompt(row, None, "key")) for row in rows]


@given(rows=st.lists(TOKENS, min_size=1, max_size=4))
def test_the_shared_tokens_begin_every_prompt_and_leave_each_its_last(
    rows: list[tuple[int, ...]],
) -> None:
    (shared,) = shared_prefixes(prompts(*rows))
    ids = shared.prompt.token_ids
    assert all(row[: len(ids)] == ids and len(ids) < len(row) for row in rows)
    longer = {row[: len(ids) + 1] for row in rows}
    assert len(longer) > 1 or len(ids) + 1 == min(map(len, rows))


def test_each_conversation_shares_its_own_tokens() -> None:
    both = prompts((1, 2, 3), (1, 2, 4)) + prompts((5, 6), conversation=1)
    assert [shared.prompt.token_ids for shared in shared_prefixes(both)] == [(1, 2), (5,)]
