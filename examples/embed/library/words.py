# words.py - the library called from Python: python3 words.py ./libwords.so
import ctypes
import sys
import threading

words = ctypes.CDLL(sys.argv[1])
words.word_count.restype = ctypes.c_long
words.word_count.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_size_t]
poem = [b'do not communicate', b'by sharing memory', b'share memory', b'by communicating']
texts = (ctypes.c_char_p * 4)(*poem)
counts = []


def count():
    counts.append(sum(words.word_count(texts, 4) for _ in range(100)))


threads = [threading.Thread(target=count) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
print(counts)
words.word_count_end()
