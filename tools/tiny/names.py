"""Names, titles and numerals in sentences about other things: capitals that are not meant to be written."""
PEOPLE = '''Napoleon;Cleopatra;Mozart;Shakespeare;Leonardo;Marie Curie;Isaac Newton;Columbus;Gandhi;Beethoven;Aristotle;Galileo;Charles Darwin;Joan of Arc;Marco Polo;Van Gogh;
Vivaldi;Homer;Tolstoy;Ada Lovelace;Uncle Bob;Aunt Mary;Mr Smith;Mrs Jones;Dr Brown;Professor Lee;Captain Cook;Saint Nicholas;Peter;Anna;Robert;Sophie;Tom and Susan;Grandma Rose'''
PLACES = '''Mount Fuji;Lake Victoria;the Sahara Desert;the Amazon River;the North Pole;Buckingham Palace;the Golden Gate Bridge;Niagara Falls;
Stonehenge;the Colosseum;Machu Picchu;Big Ben;Paris;Tokyo;London;Rome;Cairo;Brazil;Canada;Norway;South Africa;New Zealand;Hong Kong;Los Angeles;Venice;the Alps;Silicon Valley;Iceland;
the Pacific Ocean;the Grand Canyon;Central Park;Wall Street;Bond Street 12;Mexico City'''
MATTERS = '''the French Revolution;the Middle Ages;the Cold War;the Ottoman Empire;the Ming Dynasty;the Renaissance;the Olympic Games;the United Nations;the Battle of Hastings;Christmas;Easter;
Halloween;New Year;the Stone Age;the Silk Road;the Bible;Hamlet;Romeo and Juliet;the Mona Lisa;Moby Dick;the Titanic;
the Nobel Prize;Buddhism;Greek mythology;Monday;Friday;December;Latin;Spanish;NASA;the BBC;FIFA;Formula One;the Orient Express;the Magna Carta;the Space Race;Parliament'''
PEOPLE, PLACES, MATTERS = (x.replace('\n', '').split(';') for x in (PEOPLE, PLACES, MATTERS))
ROMAN = 'I II III IV V VI VII VIII IX X XI XII XIV XVI XX'.split()
RULERS = 'King Queen Pope Emperor Tsar Sultan Prince Elizabeth Henry Louis George Charles Richard Catherine Philip'.split()
HEADS = 'Mount Lake River Cape Port Saint North South Old New Count Lord Lady Sir Captain Doctor Mr Mrs King'.split()
TAILS = 'Street Avenue Bridge University Museum Island Valley Empire Kingdom Republic Dynasty War Treaty Castle Abbey Park Station Club Hotel Festival Ocean Desert Company'.split()
NUMBERED = '''Chapter;Act;Part;Volume;Book;Season;Episode;Room;Route;Gate;Platform;Apollo;Rocky;Louis;World Cup;Grade;Level;Type;Phase;Flight;Form;Bus;page;line;highway;exercise;question;lesson;
version;number'''.replace('\n', '').split(';')
SENTENCES = '''{};{};{};{} in {year};{}, {year};{} at night;{} in winter;the fall of {};the rise of {};the origins of {};who was {};who founded {};when was {} built;where exactly is {};the age of {};a map of {};
a portrait of {};a statue of {};a short biography of {};why did {} end;the way to {};a trip to {};a flight to {} at {hour};facts about {};a book about {};an exam on {};everything about {};
how many people live near {};how far is {} from {other};{} or {other};{} and {other};from {} to {other};{} versus {other};what did {} eat;did {} ever meet {other};the life of {};
the legend of {};photos of {} from {year};compare {} with {other};the weather in {};born in {year};the events of {year};the best of {};what happened in {year};a summary of {};
the first {count} pages of {};I met {} in {year};{} called at {hour};my train to {} leaves at {hour};Dear {}, I am sorry;Happy birthday to {};Hello {}, how are you;{} is late again;
{} loves {other};The {noun} of {};the {noun} of {};{}'s {noun};{} and the {noun};a {noun} for {};welcome to {}'''.replace('\n', '').split(';')
COUNTED = '''top {count} {noun}s of {year};the {count} best {noun}s in {};{count} {noun}s and {more} {noun}s;top {count} {noun}s;what is {count} times {more};{count} plus {more};{year};
the {year}s;{count} {noun}s for {more} people;how much is {count} percent of {more};the year {year};a {noun} from {year};{count} days until {};{count} reasons to visit {};
{noun} {count};at {hour} on Monday;call me at {hour};{count} km to {};set a timer for {count} minutes;the best {noun} of {year};number {count} bus to {};it is {count} degrees in {};
{year} was a good year;solve {count} x + {more}'''.replace('\n', '').split(';')
LETTERS = '''write a {kind} to {whom};write a {kind} about {topic};write me a {kind} about {topic};write an essay on {topic};write an email to {whom};write a {adjective} {kind} for {whom};
draft a {kind} to {whom};please write a {kind} for {whom};can you write a {kind} about {topic};help me write a {kind};write to {whom};write about {topic};write code that sorts a list;
write a program that counts {noun}s;write a review of {topic};I want to write a {kind};write down what {whom} said;write my {kind} for me;type a {kind} to {whom};print the {kind} from {whom};
tell {whom} that I am late;compose a {kind} for {whom};read the {kind} of {whom};finish my {kind};translate this {kind};write the {kind} for {whom};
write some {kind}s about {topic};write us a {kind};write another {kind};say a few words about {topic};spell the name of {whom} for me;send a {kind} to {whom}'''.replace('\n', '').split(';')
KINDS = '''letter poem story speech song report message note postcard review recipe novel list summary joke complaint toast diary prayer script blog greeting riddle rhyme paragraph
sentence tweet article'''.split()
WHOM = '''neighbour boss teacher mother father friend aunt grandfather cousin lawyer dentist bank sister colleague landlady mayor editor team class daughter doctor customer'''.split()
HOURS, COUNTS = (':30', ':15', ' pm', ' am', " o'clock"), (3, 5, 7, 10, 10, 12, 20, 50, 100)
ADJECTIVES = 'short long nice funny polite angry formal sad kind warm'.split()


class Names:
    """Sentences with names; noun() and unheard() give a thing and a word that nobody knows"""

    def __init__(self, random, noun, unheard):
        self.r, self.noun, self.unheard = random, noun, unheard

    def name(self):
        r, x = self.r, self.r.random()
        if x < .5:
            return r.choice(r.choice((PEOPLE, PLACES, MATTERS)))
        new = self.unheard().capitalize()
        if x < .6:
            return f'{r.choice(RULERS)} {r.choice(ROMAN)}'
        if x < .7:
            return f'{r.choice(HEADS)} {new}'
        if x < .8:
            return f'{r.choice(("", "the "))}{new} {r.choice(TAILS)}' + (f' {r.choice(ROMAN)}' if r.random() < .25 else '')
        if x < .9:
            return f'{r.choice(NUMBERED)} {r.choice(ROMAN) if r.random() < .4 else r.randint(1, 120)}'
        return new if x < .95 else f'{new} {self.unheard().capitalize()}'

    def _filled(self, forms):
        r = self.r
        whom = self.name() if r.random() < .25 else f'{r.choice(("my", "my", "our", "the"))} {r.choice(WHOM)}'
        topic = self.name() if r.random() < .4 else r.choice(('the ', 'my ', '', 'a ')) + self.noun()
        numbers = dict(year=r.randint(1066, 2039), hour=str(r.randint(1, 12)) + r.choice(HOURS), more=r.randint(2, 99), count=r.choice((*COUNTS, r.randint(2, 999))))
        return r.choice(forms).format(self.name(), other=self.name(), noun=self.noun(), kind=r.choice(KINDS), adjective=r.choice(ADJECTIVES), whom=whom, topic=topic, **numbers)

    def sentence(self):
        r, x = self.r, self.r.random()
        s = self._filled(SENTENCES if x < .5 else COUNTED if x < .7 else LETTERS)
        if r.random() < .35:
            s = s[0].upper() + s[1:]
        return s + r.choice(('', '', '', '', '.', '?'))
