"""Makes words that nobody knows but that look like words, so that a rare word of a sentence is not taken for a text to be written."""
ORDER, SHORTEST, LONGEST = 3, 3, 12


class Inventor:
    """A chain of letters: the next one as in those of the given words that share the last three; none of `never`"""

    def __init__(self, random, words, never):
        self.r, self.known, self.next = random, {*words, *never}, {}
        for word in words:
            for i, letter in enumerate(word + '.'):
                self.next.setdefault(word[max(0, i - ORDER):i], []).append(letter)

    def __call__(self):
        while True:
            word = ''
            while not word.endswith('.') and len(word) <= LONGEST:
                word += self.r.choice(self.next[word[-ORDER:]])
            if word[-1] == '.' and SHORTEST < len(word) and word[:-1] not in self.known and '-' not in word:
                return word[:-1]
