-- A small shop: customers, products, orders. Load it with `txndb sql -f sql/sample.sql`.
CREATE TABLE customers (
    id bigserial PRIMARY KEY,
    name text NOT NULL,
    email varchar(80) NOT NULL UNIQUE,
    joined date NOT NULL DEFAULT current_date
);
CREATE TABLE products (
    sku char(8) PRIMARY KEY,
    title text NOT NULL,
    price numeric(10, 2) NOT NULL CHECK (price >= 0),
    stock int NOT NULL DEFAULT 0 CHECK (stock >= 0)
);
CREATE TABLE orders (
    id bigserial PRIMARY KEY,
    customer_id bigint NOT NULL,
    placed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_customer ON orders (customer_id, placed DESC);
CREATE TABLE order_lines (
    order_id bigint,
    line int,
    sku char(8) NOT NULL,
    quantity int NOT NULL CHECK (quantity > 0),
    price numeric(10, 2) NOT NULL,
    PRIMARY KEY (order_id, line)
);
INSERT INTO customers (name, email, joined) VALUES
    ('Ada', 'ada@example.com', '2024-01-15'),
    ('Barbara', 'barbara@example.com', '2024-02-01'),
    ('Edsger', 'edsger@example.com', '2024-03-20');
INSERT INTO products VALUES
    ('BK-0001', 'Notebook', 4.50, 120),
    ('PN-0001', 'Pencil', 0.80, 900),
    ('LP-0001', 'Desk lamp', 39.90, 14);
BEGIN;
INSERT INTO orders (customer_id, placed) VALUES (1, '2024-04-01 09:30:00+00'), (1, '2024-05-02 14:00:00+00'), (3, '2024-05-03 08:15:00+00');
INSERT INTO order_lines VALUES (1, 1, 'BK-0001', 2, 4.50), (1, 2, 'PN-0001', 10, 0.80), (2, 1, 'LP-0001', 1, 39.90), (3, 1, 'PN-0001', 5, 0.75);
UPDATE products p SET stock = stock - s.sold
FROM (SELECT sku, sum(quantity) AS sold FROM order_lines GROUP BY sku) AS s WHERE s.sku = p.sku;
COMMIT;
SELECT c.name, count(DISTINCT o.id) AS orders, sum(l.quantity * l.price) AS spent
FROM customers c LEFT JOIN orders o ON o.customer_id = c.id LEFT JOIN order_lines l ON l.order_id = o.id
GROUP BY c.name ORDER BY c.name;
