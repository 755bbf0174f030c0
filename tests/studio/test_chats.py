from usl_backend.studio.chats import chat_text, is_chat

CHAT = [
    {"role": "user", "content": " What is it? "},
    {
        "role": "assistant",
        "content": [{"type": "text", "text": "A cat."}, {"type": "image_url"}, "Yes."],
    },
    {"role": "tool", "content": None},
    {"role": "", "content": "Thanks"},
]


def test_is_chat__every_message_has_role_and_content() -> None:
    assert is_chat(CHAT)
    for other in ([], "text", [{"role": "user"}], [*CHAT, "words"], {"role": "user", "content": "hi"}):
        assert not is_chat(other)


def test_chat_text__one_line_per_message_with_words() -> None:
    assert is_chat(CHAT)
    assert chat_text(CHAT) == "user: What is it?\nassistant: A cat. Yes.\nThanks"
