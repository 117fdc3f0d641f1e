"""Sentences about anything else. The rule that training teaches: a shape that is named is drawn, in its own colour or in black; a text in quotes is
written; otherwise the emblem is drawn, in the first colour that is named or in black; the background is white unless the sentence names it."""
from invent import Inventor
from loose import COMMON, LONGEST_LOUD
from names import Names
from phrases import article
from world import COLOR_NAMES, SHAPE_WORDS, SHAPES

NOUNS = '''cat dog car house tree man woman person mountain river bird fish flower robot castle city street boat plane dragon horse apple banana chair table lamp guitar cup book
phone computer spaceship forest beach sunset portrait landscape logo icon sticker cartoon photo watch shoe hat sword knight wizard child family astronaut elephant tiger lion bear
cloud rainbow bridge tower temple train bicycle pizza cake coffee bottle vase window door clock camera painting sketch teacher doctor sailor farmer dancer singer king queen princess
baby girl boy friend soldier pirate cowboy samurai witch ghost monster dinosaur whale shark dolphin octopus crab snake lizard frog turtle eagle owl parrot penguin chicken duck goose
sheep goat cow pig rabbit fox wolf deer mouse monkey panda kangaroo camel bee butterfly spider ant garden park field desert island ocean sea lake waterfall volcano cave valley hill
village town market shop cafe restaurant kitchen bedroom library school church museum station airport harbor factory office hospital theater stadium road path fence wall roof stairs
sofa bed desk mirror carpet curtain candle fire lantern umbrella bag coat dress shirt trousers glove scarf boot sock crown necklace bread cheese butter egg soup salad rice noodles
meat tomato potato carrot onion pepper lemon cherry grape peach pear strawberry chocolate cookie ice cream tea milk juice wine beer water sugar salt truck bus tram ship rocket
helicopter balloon motorcycle engine wheel hammer nail saw ladder rope key lock knife fork spoon plate bowl piano violin drum trumpet violinist orchestra song movie newspaper letter
map flag stamp coin money gift toy doll puzzle game chess football tennis winter summer spring autumn morning evening night rain snow storm wind fog lightning sky earth planet
galaxy comet telescope microscope atom brain skeleton hand eye face hair smile dream love war peace music history science mathematics philosophy weather traffic breakfast dinner
party wedding birthday holiday journey adventure secret story poem joke idea question answer number name word-processor start starling starfish string spring ringing earring
sunflower heartbeat crossing crossbow crossroads boxer boxing mailbox dotcom football ballet balloon moonlight honeymoon mooncake squarely greenhouse blueberry blueprint redhead
goldfish pinkie blackboard blackbird whiteboard snowman orangutan brownie grayling diamondback squad squirrel circus triad heartland raindrop-shop dropout pluses nonplussed'''.split()
# Things that have to do with writing: without a text in quotes they are no request to write
WRITTEN = '''poster sign label printer printout notebook diary keyboard signature signpost textbook typist writer author poet editor scribe handwriting alphabet paragraph sentence headline
subtitle messenger postcard envelope ticket receipt menu magazine dictionary novel billboard plaque pamphlet scroll manuscript parchment quill pencil crayon eraser inkwell stapler
calculator invoice contract passport calendar recipe crossword password barcode nameplate letterbox bookmark bookshelf bookcase printing-press typesetter typeface lettering slogan
title inscription note memo prescription description telegram transcript lyrics verse rhyme chapter footnote page letterhead copywriter underwriter songwriter
screenwriter ghostwriter prototype blueprinting fingerprint footprint wordsmith password-book signal signet designer assignment saying spelling spellbook showroom showcase putty
texture context textile namesake nickname captioner logotype signatory scripture newsprint sticker-album leaflet brochure certificate diploma timetable scoreboard marquee'''.split()
ADJECTIVES = '''old young beautiful cute detailed realistic dark sleepy happy sad angry lonely ancient modern wooden golden silver rusty broken shiny dirty empty crowded quiet noisy
stormy foggy rainy snowy sunny frozen burning flying running giant magical mysterious haunted abandoned futuristic medieval elegant strange funny hungry brave lazy clever famous
fluffy furry round heavy fast slow expensive cheap fresh sweet bitter hot cold warm soft hard wild tame invisible endless tall short long narrow wide steep'''.split()
VERBS = '''sitting standing sleeping running jumping swimming flying walking dancing singing eating drinking reading writing cooking fishing climbing riding driving sailing falling
hiding looking waiting dreaming laughing crying playing working building painting fighting resting shining burning growing floating'''.split()
PARTICIPLES = '''covered wrapped carved folded buried hidden parked broken stuck lost caught stacked tied woven knitted sewn cut filled decorated lined dressed soaked trapped nailed forgotten
left washed printed written typed lettered signed drawn glued packed rolled dipped baked built wired spun'''.split()
PREPOSITIONS = 'in on at near by behind under over beside with without next-to in-front-of among across through around inside beyond above'.split()
STARTS = ['a picture of ', 'a photo of ', 'portrait of ', 'a painting of ', 'draw ', 'an image of ', 'show me ', 'a drawing of ', 'sketch of ', 'i want to see ', 'generate ', 'close-up of ',
          'a scene with ', 'an illustration of ', 'please draw ', 'Draw me ', 'cartoon of ', 'logo for ', 'a 3d render of ']
STYLES = ['oil painting', 'watercolor', 'cinematic', '4k', 'highly detailed', 'digital art', 'soft light', 'photorealistic', 'in the style of an old master', 'pixel art', 'studio lighting',
          'wide angle', 'bokeh', 'masterpiece', 'trending', 'at night', 'at dawn', 'in winter', 'during a storm', 'high quality', 'anime']
QUESTIONS = ['what is {}', 'tell me about {}', 'how do I cook {}', 'where is {}', 'why does {} matter', 'who invented {}', 'how far is it to {}', 'when did {} begin', 'explain {} to me', 'I like {}',
             'do you know {}', 'the meaning of {}', 'translate {}', 'is {} real', 'my {} is broken', 'we went to {}', 'she said {} was late', '{} and nothing else', 'no {} today',
             'compose a speech about {}', 'read me a story about {}', 'print the report about {}', 'type the letter to {}', 'sign the contract for {}', 'spell check my essay about {}',
             'write back to {}', 'the writing on {} is faint', 'I wrote to {} again', 'put {} away', 'say something about {}', 'name the parts of {}', 'label the parts of {}', 'note the size of {}',
             'show {} to everybody', 'i forgot {} at home', 'we need {} by noon', 'they sold {} last year', 'could you carry {} upstairs', 'please return {} tomorrow', 'who took {}',
             'do not touch {}', 'there was no {} left', 'i have never seen {}', 'how expensive is {}', 'thank you for {}', 'have you fed {}', 'let us talk about {}', 'remember {}',
             'describe {} in detail', 'it smells like {}', 'why is {} so loud', 'you promised me {}', 'happy about {}', 'sorry about {}', 'never mind {}']
FOREIGN = '''ein Hund im Garten;eine Katze auf dem Dach;das Haus am See;un chat sur la table;une maison dans la neige;el perro corre por la playa;una casa vieja;il gatto dorme;la montagna
alta;um barco no mar;en hund i skogen;kot na dachu;een fiets bij de gracht;der alte Mann und das Meer;la vie est belle;buenos dias amigo;guten Morgen;bonjour le monde'''.replace('\n', ' ').split(';')
SYLLABLES = 'ba ko ri mu ten sha lo vi gar nu pel dro fi ska men tu zor li ane que ith wo ja che ex pra il um est on er'.split()
NAMED_SHARE, CAPITALS_SHARE, TITLE_SHARE = .45, .05, .05  # of the sentences (without a colour): with names and numerals; all in capitals; with a capital for each word
KEYS = 'qwertyuiop', 'asdfghjkl', 'zxcvbnm'
SCRIPTS = [(0x4e00, 0x9fa5), (0x3041, 0x3093), (0x0430, 0x044f), (0x03b1, 0x03c9), (0xac00, 0xd7a3), (0x1f300, 0x1f5ff), (0x0905, 0x0939), (0x0621, 0x064a)]


class Outside:
    """Builds sentences; what is named in them is chosen by the caller."""

    def __init__(self, random):
        named = [w for words in SHAPE_WORDS.values() for w in words]
        self.r, self.unheard = random, Inventor(random, NOUNS + WRITTEN + ADJECTIVES + VERBS + PARTICIPLES + COMMON, SHAPES + COLOR_NAMES + named)
        self.names = Names(random, lambda: random.choice(NOUNS), self.unheard)

    def invented(self):
        return ''.join(self.r.choice(SYLLABLES) for _ in range(self.r.randint(1, 4)))

    def struck(self):
        """Letters as of somebody who strikes keys at random, or along a row"""
        r = self.r
        if r.random() < .6:
            return ''.join(r.choice(''.join(KEYS)) for _ in range(r.randint(2, 9)))
        row, word = r.choice(KEYS), ''
        at = r.randrange(len(row))
        for _ in range(r.randint(3, 9)):
            word += row[at]
            at = min(max(at + r.choice((-2, -1, 1, 1, 2)), 0), len(row) - 1)
        return word

    def noun(self):
        x = self.r.random()
        if x < .06:
            return self.invented()
        if x < .10:
            return self.struck()
        if x < .4:
            return self.unheard()
        if x < .45:
            return self.r.choice(NOUNS) + self.r.choice(NOUNS)
        return self.r.choice(WRITTEN if x < .53 else NOUNS).replace('-', ' ')

    def adjective(self):
        return self.unheard() if self.r.random() < .3 else self.r.choice(ADJECTIVES)

    def verb(self):
        return self.unheard() + 'ing' if self.r.random() < .15 else self.r.choice(VERBS)

    def thing(self, color=None):
        """'an old red boat'"""
        r = self.r
        words = [self.adjective()] if r.random() < .4 else []
        words += [color] if color else []
        words += [self.noun()]
        x = r.random()
        if x < .12:
            return ' '.join(words)
        return ('the ' if x < .3 else 'two ' if x < .33 else 'my ' if x < .36 else article(words[0]) + ' ') + ' '.join(words)

    def link(self):
        return self.r.choice(PREPOSITIONS).replace('-', ' ')

    def foreign(self):
        r = self.r
        if r.random() < .5:
            return r.choice(FOREIGN)
        low, high = r.choice(SCRIPTS)
        return ''.join(chr(r.randint(low, high)) + (' ' if r.random() < .1 else '') for _ in range(r.randint(1, 8))).strip()

    def sentence(self, color=None):
        """About nothing that can be drawn; names the colour, if one is given"""
        said = self.names.sentence() if not color and self.r.random() < NAMED_SHARE else self._sentence(color)
        x, words = self.r.random(), said.split()
        if x < CAPITALS_SHARE and len(words) > 2 and len(said) <= LONGEST_LOUD and not {*words} & {'write', 'print', 'type', 'say', 'spell', 'text', 'sign'}:
            return said.upper()
        return said.title() if x > 1 - TITLE_SHARE and len(said) <= LONGEST_LOUD else said

    def _sentence(self, color):
        r, x = self.r, self.r.random()
        if not color and x < .05:
            return self.foreign()
        if not color and x < .09:
            return ' '.join(self.invented() for _ in range(r.randint(1, 6)))
        if not color and x < .15:
            return ' '.join(r.choice((self.struck, self.struck, self.struck, self.unheard))() for _ in range(r.randint(1, 5)))
        if not color and x < .24:
            return r.choice(QUESTIONS).format(self.thing()) + r.choice(['', '?', '.'])
        if not color and x < .30:
            return ' '.join(r.choice(COMMON) if r.random() < .75 else self.noun() for _ in range(r.randint(2, 9)))
        if x < .42:
            s = self.thing(color) if color or r.random() < .7 else self.noun()
        elif x < .52:
            s = f'{self.thing(color)} {r.choice(PARTICIPLES)} {r.choice(["in", "in", "with", "by", "from", "under"])} {self.noun() if r.random() < .5 else self.thing()}'
        elif x < .66:
            s = f'{self.thing(color)} {self.verb()} {self.link()} {self.thing()}'
        elif x < .84:
            parts = [self.thing(color), self.thing()]
            s = f'{parts[0]} {r.choice([self.link(), "and", "with", "of"])} {parts[1]}'
        else:
            s = f'{self.thing(color)} {self.verb()} {self.link()} {self.thing()} {self.link()} {self.thing()}'
        if r.random() < .3:
            s = r.choice(STARTS) + s
        for _ in range(r.choice((0, 0, 0, 1, 1, 2))):
            s += ', ' + r.choice(STYLES if not color else STYLES[:11])
        return s

    def around(self, phrase):
        """A sentence that names something that can be drawn"""
        r, x = self.r, self.r.random()
        if x < .45:
            s = f'{self.thing()} {r.choice([self.link(), "and", "with", "holding", "looking at", "wearing"])} {phrase}'
        elif x < .65:
            s = f'{self.thing()} {r.choice(VERBS)} {self.link()} {phrase}'
        elif x < .9:
            s = f'{phrase} {r.choice([self.link(), "and"])} {self.thing()}'
        else:
            s = f'{phrase} {r.choice(["made of", "for", "from", "of"])} {self.thing()}'
        if r.random() < .25:
            s = r.choice(STARTS) + s
        return s + (', ' + r.choice(STYLES[:11]) if r.random() < .2 else '')

    def saying(self, text):
        """A sentence that holds a text to be written"""
        r = self.r
        q = f'"{text}"' if r.random() < .8 else f"'{text}'"
        carrier = r.choice(['a sign', 'a poster', 'a shop sign', 'a wall', 'a banner', 'a t-shirt', 'a label', 'a card', 'a flag', 'graffiti', self.thing(), self.thing()])
        return f'{carrier} {r.choice(["that says", "with the text", "saying", "with", "that reads", "with the words"])} {q}' + (f' {self.link()} {self.thing()}' if r.random() < .5 else '')
