"""The cloud dialect: images and containers by small numbers, billing by image, routing by website_url."""
