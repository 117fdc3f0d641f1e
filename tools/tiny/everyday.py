"""Everyday words, for requests to write without quotes or with two words in one pair of quotes: none that such a request has otherwise, and no colour or shape."""
EVERYDAY = '''able address advice after again age agree air alarm album alive all alone always amazing angel angry animal answer any anyone apart apple april arm arrive art artist ask
asleep aunt autumn awake away baby back bacon bad bag bake baker balance banana bank barn basket bath battle beach bean bear beauty become bed bee beef before begin bell
belong belt bench berry best better bicycle bike bill bird birthday biscuit bit bite bitter blanket bless blossom board boat body boil bone bonus book boot border born
boss both bottle bowl boy brain branch brave bread break breath breeze bridge bright bring broken brother brush bucket build burger burn bus bush busy butter button buy
cabin cable cake call calm camera camp can candle candy captain car card care careful carpet carrot carry castle cat catch cause ceiling center chair chance change cheap
check cheers cheese cherry chicken chief child chili china choice choose city class clean clear clever climb clock close closed cloud club coach coast coat coffee coin
cold collect college comfort comic common cook cookie cool copy corn corner cost cotton cough country couple courage cousin cover cow crazy cream create crisp crowd cry
culture cup curious custom cute daddy daily dance danger dark darling data date daughter day deal dear deep deliver desert design desk dessert detail dinner dirty
discover dish doctor dog doll dollar done donkey door double doubt down draft dragon drama dream dress drink drive drum dry duck dust eagle early earth easy eat echo edge
egg eight elbow electric empty end enemy energy engine enjoy enough enter equal escape even evening event ever every exact exam exit extra eye face fact fair faith fall
family famous fan farm farmer fashion fast father favorite fear feast feel fence festival few field fight film find fine finger finish fire first fish fit five fix flag
flame flat flavor flight floor flour flow flower fly fog follow food fool foot forest forever forget forgive forward found four fox free freedom fresh friday friend frog
front frost fruit full fun funny future game garage garden garlic gate gentle ghost giant gift ginger girl give glad glass glory glove go goal goat gold golden good
goodbye goose grand grape grass gravy great grill ground group grow guess guest guide guitar hair half hall ham hammer hand happy hard harvest hat have hazel head health
hear heaven heavy hello help herbs here hero hidden high hill history hit hobby hold holiday holy home honest honey hope horse hospital hot hotel hour house how hug human
humble hungry hunt hurry husband ice idea inch insect invite iron island ivory ivy jacket jam january jar jazz jelly jewel job join joke journey joy judge juice july jump
june jungle junior just kangaroo keep kettle key kick kind king kiss kitchen kite kitten knee knife knock know ladder lady lake lamb lamp land language last late later
laugh laundry law lazy leader leaf learn leather leave lemon lesson let library life light lime line lion lip list listen live local lock logic london lonely long look
lost lot loud love lovely low loyal luck lucky lunch machine magic mail mango many map maple march market marry master match maybe meadow meal mean measure meat medicine
meet melon melt memory menu merry message metal midnight might milk million mind mine minute mirror miss mix modern moment monday money monkey month morning moss mother
motor mountain mouse mouth move movie much mud muffin mum museum music mustard mystery name narrow nature near neck needle neighbor never new news next nice night nine
noble noise noodle noon north nose note nothing now nurse nut oak ocean october offer office often oil okay old olive once onion open opera orchard order organic other
our out oven owl own page pair palace pan panda pants paper parade parent paris park parrot party pass past pasta path patient peace peach peanut pear pencil pepper
perfect phone photo piano pickle picnic pie pilot pine pirate pizza place plan planet plant plate play please plenty plum pocket poem poet police polite pond pool poor
popcorn port potato pottery powder power practice present press pretty price pride prince print private prize promise proud public pudding pull puppy pure push puzzle
queen question quick quiet quilt quite rabbit race radio rain rainbow raise ranch rare read ready real recipe record relax remember rent repair rest return ribbon rice
rich ride ripe rise river road roast robin rocket roof room root rose rough royal rule run safe sail salad sale salmon salt same sand saturday sauce sausage save school
science scout sea season seat secret see seed sell send sense serve seven shadow shall shampoo share sharp sheep shell shine ship shirt shoes shop short show shower sick
silence silk silly silver sing singer sister six skill skin sky sleep sleepy slice slow smart smell smile smoke smooth snack snake snow soap soccer social sock soft
soldier some someone song soon sorry soul soup south space special speed spice spider spinach spirit spoon sport spring stage stairs stamp stand start station stay steak
steam steel step still stone stop store storm story straight stranger street strong student study style subject sugar summer sun sunday sunny sunrise sunset super supper
surprise sushi swan sweet swim swing system table take talent talk tall tea teach team tender tennis tent test thank thanks theater their there they thing think third
thirsty three thunder thursday ticket tidy tiger time tired toast today together tomato tomorrow tonight tool tooth total touch towel tower town toy trade traffic train
travel treat tree trip true trust truth try tuesday tulip tuna turkey turn turtle twelve twenty twin two ugly umbrella uncle unicorn united unity until upstairs us useful
valley vanilla vegan velvet very victory video village violin visit visitor voice wagon wait wake walk wall wallet walnut want war warm wash watch water wave way we
wealth weather wedding week weekend welcome well west wet whale what wheat wheel when where whisper who why wife wild willow win wind window wine wing winner winter
wisdom wise wish wolf woman wonder wood wool work worker world worry worth wow wrong yard year yeast yes yet yoga yogurt you young your youth zebra zero zoo'''.split()
