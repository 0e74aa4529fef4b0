"""The twelve classes of AeroScapes, in the order of its mask values."""

CLASSES = (
    "Background",
    "Person",
    "Bike",
    "Car",
    "Drone",
    "Boat",
    "Animal",
    "Obstacle",
    "Construction",
    "Vegetation",
    "Road",
    "Sky",
)
BACKGROUND, PERSON, BIKE, CAR, DRONE, BOAT, ANIMAL, OBSTACLE, CONSTRUCTION, VEGETATION, ROAD, SKY = range(12)
