"""The world that the tiny model draws: names, colours, shapes, words, and which of their combinations training never sees."""
import hashlib

import numpy as np

COLORS = {'red': (220, 40, 40), 'green': (40, 160, 70), 'blue': (45, 85, 215), 'yellow': (245, 215, 55), 'orange': (245, 140, 30), 'purple': (135, 60, 175),
          'pink': (245, 150, 185), 'black': (20, 20, 22), 'white': (250, 250, 250), 'gray': (135, 135, 140), 'cyan': (60, 200, 215), 'brown': (125, 80, 45)}
COLOR_NAMES = list(COLORS)
RGB = np.array([COLORS[n] for n in COLOR_NAMES], np.float32) / 127.5 - 1
COLOR = {n: i for i, n in enumerate(COLOR_NAMES)}
LIGHT = {COLOR[n] for n in ('yellow', 'pink', 'white', 'cyan', 'orange', 'gray')}  # black text reads well on these
COLOR_WORDS = {'gray': ['gray', 'gray', 'grey'], 'purple': ['purple', 'purple', 'purple', 'violet'], 'cyan': ['cyan', 'cyan', 'cyan', 'turquoise']}

# The last shape, an ink drop, is also the emblem: what a sentence outside this world gives.
SHAPES = ['circle', 'square', 'triangle', 'star', 'ring', 'heart', 'diamond', 'cross', 'moon', 'hexagon', 'drop']
EMBLEM = SHAPES.index('drop')
ROOMY = tuple(SHAPES.index(s) for s in ('circle', 'square', 'hexagon'))  # something of the same size fits inside these
RING = SHAPES.index('ring')  # what is inside it stands on the background
# Where something fits inside a shape of radius 1: its middle (x, y) and radius, and the width of a word there
ROOM = {'circle': (0, 0, .43, 1.55), 'square': (0, 0, .43, 1.4), 'hexagon': (0, 0, .43, 1.5), 'triangle': (0, .08, .33, .85), 'star': (0, .02, .33, .78), 'ring': (0, 0, .37, .86),
        'heart': (0, -.1, .42, 1.3), 'diamond': (0, 0, .45, 1.2), 'cross': (0, 0, .26, 1.6), 'moon': (-.66, 0, .24, 0), 'drop': (0, .3, .42, 1.)}
SHAPE_WORDS = {'circle': ['circle', 'disc', 'disk', 'dot', 'ball'], 'square': ['square', 'square', 'box'], 'star': ['star', 'five-pointed star'],
               'ring': ['ring', 'ring', 'donut', 'hoop'], 'diamond': ['diamond', 'rhombus'], 'cross': ['cross', 'cross', 'plus sign', 'plus'],
               'moon': ['moon', 'crescent', 'crescent moon'], 'heart': ['heart', 'heart shape'], 'triangle': ['triangle'], 'hexagon': ['hexagon'],
               'drop': ['drop', 'ink drop', 'droplet']}
PATTERNS = ['', 'striped', 'dotted', 'checkered']
PATTERN_WORDS = [[''], ['striped', 'stripy'], ['dotted', 'polka dot', 'spotted'], ['checkered', 'checked', 'checkerboard']]
PATTERN_AFTER = ['', ' with stripes', ' with dots', ' with a checkerboard pattern']
# Words for the same that only training captions have (Phrases.wide): the lists stay as they were
MORE_COLOR_WORDS = {'red': ['scarlet', 'crimson'], 'green': ['emerald'], 'blue': ['navy', 'azure'], 'purple': ['lavender'], 'cyan': ['aqua', 'teal'], 'pink': ['fuchsia']}
MORE_SIZE_WORDS = [[], ['mini', 'wee', 'teeny', 'teensy', 'minuscule', 'very small'], ['giant', 'enormous', 'gigantic', 'massive', 'great big', 'really large']]
SIZES = ['', 'small', 'large']
SIZE_WORDS = [[''], ['small', 'little', 'tiny'], ['large', 'big', 'huge']]
SIZE_RADIUS = [.40, .24, .60]
SIZE_SHIFT = [.52, .60, .34]  # how far from the middle a shape of each size is put
POSITIONS = ['in the center', 'on the left', 'on the right', 'at the top', 'at the bottom', 'in the top left corner', 'in the top right corner',
             'in the bottom left corner', 'in the bottom right corner']
POSITION_XY = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, -1), (-1, 1), (1, 1)]
POSITION_WORDS = [['in the middle', 'in the centre', 'centered'], ['on the left side', 'at the left', 'to the left'], ['on the right side', 'at the right', 'to the right'],
                  ['on top', 'near the top'], ['near the bottom', 'on the bottom'], ['in the upper left corner', 'at the top left', 'top left'],
                  ['in the upper right corner', 'at the top right', 'top right'], ['in the lower left corner', 'at the bottom left', 'bottom left'],
                  ['in the lower right corner', 'at the bottom right', 'bottom right']]
RELATIONS = ['to the left of', 'to the right of', 'above', 'below', 'inside']
RELATION_WORDS = [['to the left of', 'left of', 'on the left of'], ['to the right of', 'right of', 'on the right of'], ['above', 'over', 'on top of'],
                  ['below', 'under', 'beneath'], ['inside', 'in', 'within']]
INSIDE = 4

CAPITALS, DIGITS, SMALL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', '0123456789', 'abcdefghijklmnopqrstuvwxyz'
GLYPHS = CAPITALS + DIGITS + SMALL
DESCENDERS = set('gjpqyQ')
MAX_LETTERS = 8  # in a word
NO_SHAPE, NO_GLYPH = len(SHAPES), len(GLYPHS)  # the classes "nothing there"
WORDS = '''INK CAT DOG SUN MOON STAR TREE FISH BIRD HOUSE LOVE HELLO OPEN CODE BLUE RED YES NO CPU GPU QWEN IMAGE FAST ART MAP SEA SKY TEA CUP WORLD PEACE HOPE
HAPPY MUSIC LIGHT NIGHT DAY GOOD NEW OLD BIG STOP GO EXIT SALE FREE CAFE SHOP BOOK GAME PLAY HOME FIRE WATER EARTH WIND SNOW RAIN ROSE LEAF KING QUEEN HERO
MAGIC DREAM SMILE LUCKY HI OK THE AND YOU ME WE US IT IS BE DO UP ON IN ALL ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE TEN GREEN PINK GOLD BLACK WHITE
ORANGE APPLE LEMON BREAD CAKE PIZZA SUSHI COFFEE MILK TIGER LION BEAR WOLF FOX OWL BEE ANT COW PIG DUCK FROG HORSE SHEEP ROBOT SPACE ROCKET PLANET MARS
VENUS TIME CLOCK PHONE MAIL CHAT LIKE SHARE POST NEWS DATA BYTE PIXEL MODEL TINY TEST DEMO BETA ALPHA ZERO DELTA OMEGA JAZZ ROCK POP SONG DANCE PARTY SUMMER
WINTER SPRING AUTUMN MONDAY FRIDAY SUNDAY JUNE JULY MAY APRIL PARIS ROME TOKYO LONDON BERLIN CHINA INDIA SPAIN JAPAN USA UK EU AI ML PC TV DVD CD USB WIFI
LINUX MAC WEB APP API SQL CPP RUST JAVA PYTHON SWIFT KOTLIN BASIC HTML CSS PNG JPG GIF PDF ZIP FILE EDIT VIEW SAVE LOAD RUN WALK JUMP SWIM FLY DRIVE STAY
LEFT RIGHT NORTH SOUTH EAST WEST TOP END START BEGIN FINISH WIN LOSE GAIN LOSS HIGH LOW HOT COLD WARM COOL DRY WET SOFT HARD EASY QUICK SLOW THANKS SORRY
PLEASE WELCOME FRIEND FAMILY MOTHER FATHER BABY BOY GIRL MAN WOMAN CHILD KITE BOAT SHIP TRAIN PLANE CAR BUS BIKE ROAD CITY TOWN PARK LAKE RIVER OCEAN BEACH
ISLAND FOREST FIELD GARDEN FLOWER GRASS STONE SAND GLASS METAL WOOD PAPER BRUSH PAINT COLOR SHAPE HEART CIRCLE SQUARE CROSS RING INKSTONE MORNING EVENING
WEEKEND HOLIDAY BIRTHDAY KITCHEN PICTURE DIAMOND COMPUTER KEYBOARD MOUNTAIN SUNSHINE RAINBOW FREEDOM SCIENCE NATURE SCHOOL TRAVEL CINEMA BAKERY HOTEL TAXI
PRESS ASSIST USER SYSTEM BOYS TOYS SISTER HOUSES BONUS'''.split()
WORDS = list(dict.fromkeys(WORDS))
# Where a whole picture of each size is (width, height)
PICTURE_SIZES = [(256, 256), (320, 192), (192, 320), (384, 384)]

# A scene is a row of numbers: background | 2 x (shape, colour, pattern, x, y, radius) | 2 x (letters, colour, x, y, cell width, glyphs)
SHAPE_AT = (1, 7)
WORD_FIELDS = 5 + MAX_LETTERS
WORD_AT = (13, 13 + WORD_FIELDS)
ROW = 13 + 2 * WORD_FIELDS


def _hash(text):
    return int(hashlib.md5(text.encode()).hexdigest()[:8], 16)


# About 5 % of the (shape, colour, background) triples and of the words are kept out of training.
HELD_TRIPLE = np.array([[[_hash(f'{s}/{c}/{b}') % 20 == 0 for b in COLOR_NAMES] for c in COLOR_NAMES] for s in SHAPES])


def is_held_word(word):
    return len(word) >= 2 and _hash('word/' + word.upper()) % 20 == 0


def size_of_index(index):
    """Which of the first three sizes the held-out caption of this index is drawn in"""
    return (0, 0, 0, 0, 0, 1, 2)[_hash(f'ar{index}') % 7]


def plain_background(*colors):
    """The background when the caption names none"""
    return COLOR['white'] if COLOR['white'] not in colors else COLOR['black']
